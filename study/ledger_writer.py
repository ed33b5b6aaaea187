"""LedgerWriter: writes a ledger into a tracking store, in its order, whenever the store is there.

As a program (`python -m study.ledger_writer FOLDER URI`) it follows the ledger of a study that
runs, in a process of its own: `import mlflow`, a database's first tables and pictures take
seconds of a core, which must not come from the process that hands out trials.
"""

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from study.ledger import NAME, Record, whole_lines
from study.lock import only_one
from study.rules import MistakeError
from study.run_tree import RunTree
from study.tracking import MLflowStore

LOCK = "mlflow.lock"
POLL_SECONDS = 1.0
# Between tries to reach a store that is away.
LONGEST_PAUSE = 30.0
# How often a record is tried that a store refuses which answers: a database can be locked.
TRIES = 4
# The same where its answer was lost, though it can be reached: a server that comes and goes.
LOST_TRIES = 12
LONGEST_TRY_PAUSE = 8.0
# Trials come first where cores are short: beside busy ones it gets a seventieth of a core.
NICENESS = 19
# What a record can raise that json, matplotlib or the tree cannot take; never the store's fault.
UNEXPECTED = (ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError, LookupError)


class LedgerWriter:
    """Writes each record of a ledger once, in order, as far as the store can be reached.

    `failure` is the first record that the store refused while it answered; later ones are still
    written. `away` says why the store cannot be reached, while it cannot.
    """

    def __init__(self, ledger: Path, store: Any, pause: Callable[[float], None]) -> None:
        self.failure: str | None = None
        self.away: str | None = None
        self.written = 0
        self._ledger = ledger
        self._store = store
        self._tree = RunTree(store)
        self._pause = pause
        self._offset = 0
        self._missed: set[int] = set()

    def catch_up(self) -> bool:
        """Writes what is there and not written yet; False where the store is away.

        Raises:
            ValueError: at a line that is no record of a study, naming the file.
        """
        if not self._ledger.exists():
            return True
        for record, line in whole_lines(self._ledger, self._offset, self.written):
            if self._offset == 0 and record["kind"] != "study":
                raise ValueError(
                    f"a ledger must begin with a record of kind 'study', but line 1 of "
                    f"{self._ledger} is of kind {record['kind']!r}."
                )
            if not self._write(f"a record of kind {record['kind']!r}", record):
                return False
            self._offset += len(line)
            self.written += 1
        return self._write("metrics", None)

    def safe(self) -> int:
        """Returns how many records were written in full; those of one millisecond count as one."""
        return max(0, self.written - len(self._missed | self._store.missing()))

    def _write(self, what: str, record: Record | None) -> bool:
        """Writes a record, or what was kept back (None); False where the store is away."""
        number = 0
        while True:
            number += 1
            self._store.begin()
            try:
                if record is None:
                    self._store.flush()
                else:
                    self._tree.write(record)
                self.away = None
                return True
            except self._store.errors as error:
                if not self._store.answers():
                    self.away = _in_one_line(_root(error))
                    return False
                if number == (LOST_TRIES if isinstance(_root(error), OSError) else TRIES):
                    self._refused(what, record, _in_one_line(_root(error)))
                    if not self._store.skip() or record is not None:
                        break
                    # The metrics of other runs are still to be written.
                    number = 0
                else:
                    self._pause(min(2.0 ** (number - 2), LONGEST_TRY_PAUSE))
            except UNEXPECTED as error:
                self._refused(what, record, _in_one_line(error))
                break
        self.away = None
        return True

    def _refused(self, what: str, record: Record | None, text: str) -> None:
        self.failure = self.failure or f"MLflow could not take {what}: {text}."
        if record is not None:
            self._missed.add(int(record.get("time", 0) * 1000))
            self._tree.spoil(record)


def replay(output: Path, uri: str) -> tuple[int, str | None]:
    """Writes the whole ledger of a study's folder; what the store holds already stays single.

    Returns the number of records, and what went wrong (None: all of them are there).

    Raises:
        MistakeError: if another process writes this study's records; if its ledger holds none, or
            what is no record of a study or of a newer version.
    """
    with only_one(output), only_one(output, LOCK):
        path = output / NAME
        writer = LedgerWriter(path, MLflowStore(uri, output), time.sleep)
        try:
            # All of it first: of a ledger that is refused nothing is written.
            total = sum(1 for _ in whole_lines(path))
            if total == 0:
                raise ValueError(f"a ledger must hold a record of a study, but {path} holds none.")
            writer.catch_up()
        except (ValueError, FileNotFoundError) as error:
            raise MistakeError(str(error)) from error
        except ModuleNotFoundError as error:
            kind = uri.partition("://")[0]
            raise MistakeError(
                f"A store at {kind}:// needs the Python package {error.name}, which must be "
                f"installed here: it comes with no extra of this project."
            ) from error
        problem = _problem(writer)
        if problem is not None:
            problem = f"{writer.safe()} of {total} records were written to {uri}: {problem}"
        return writer.written, problem


def follow(output: Path, uri: str) -> None:
    """Writes the records of a running study as they come, until nothing holds stdin open any more.

    Says on stdout, a JSON object a line, when the store cannot be reached for the first time
    ("away") and at the end what is missing ("failure", null for nothing).
    """
    ended = False

    def pause(seconds: float) -> None:
        """Waits so long, or until the study ends."""
        nonlocal ended
        if ended:
            time.sleep(min(seconds, POLL_SECONDS))
        else:
            ended = bool(select.select([sys.stdin], [], [], seconds)[0])

    while True:
        try:
            with only_one(output, LOCK):
                store = MLflowStore(uri, output)
                # Import and database take seconds of a core: spent here, while Ray is starting.
                store.answers()
                os.nice(NICENESS)
                writer = LedgerWriter(output / NAME, store, pause)
                told, wait = False, POLL_SECONDS
                while True:
                    last = ended
                    if writer.catch_up():
                        wait = POLL_SECONDS
                    elif not told:
                        _tell({"away": writer.away})
                        told = True
                    if last:
                        _tell({"failure": _problem(writer)})
                        return
                    pause(wait)
                    wait = min(2 * wait, LONGEST_PAUSE) if writer.away else POLL_SECONDS
        except MistakeError as error:
            # The writer of a session that was killed may still be at its last records.
            if ended:
                _tell({"failure": str(error)})
                return
            pause(POLL_SECONDS)
        except ValueError as error:
            _tell({"failure": f"MLflow could not take every record: {error}"})
            return
        except ImportError as error:
            _tell({"failure": f"MLflow could not take any record: {_in_one_line(error)}."})
            return


def _problem(writer: LedgerWriter) -> str | None:
    if writer.away is not None:
        return f"MLflow cannot be reached ({writer.away})."
    return writer.failure


def _root(error: BaseException) -> BaseException:
    """What an error began with: a connection's wraps several others, whose texts are long."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _in_one_line(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text[:400].rstrip(".")


def _tell(words: dict[str, Any]) -> None:
    # A study that was killed does not listen any more; its records are written all the same.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    follow(Path(sys.argv[1]), sys.argv[2])
