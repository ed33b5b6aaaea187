"""LedgerWriter: writes a ledger into a tracking store, in its order, whenever the store is there.

As a program (`python -m study.tracking.writer FOLDER URI`) it follows the ledger of a study that
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
from functools import partial
from pathlib import Path

from study.errors import MistakeError
from study.ledger import History, Record, StudyFolder, whole_lines
from study.tracking.mlflow_store import MLflowStore
from study.tracking.optuna_searches import OptunaSearches
from study.tracking.run_tree import RunTree
from study.tracking.runs import Store
from study.tracking.tracker import URI_VARIABLE, without_secrets

LOCK = "mlflow.lock"
POLL_SECONDS = 1.0
# Between looks at the ledger of a study that runs: what came meanwhile is written together.
FOLLOW_SECONDS = 5.0
# Kinds of records that come between tasks, after which metrics are still held.
BETWEEN_TASKS = ("task", "checkpoint")
# Between tries to reach a store that is away.
LONGEST_PAUSE = 30.0
# Between the four tries of a record that a store refuses which answers: a database can be locked.
PAUSES = (0.5, 1.0, 2.0)
# Trials come first where cores are short: beside busy ones it gets a seventieth of a core.
NICENESS = 19
# What a record can raise that json, matplotlib or the tree cannot take; never the store's fault.
UNEXPECTED = (ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError, LookupError)


class LedgerWriter:
    """Writes each record of a ledger once, in order, as soon as the store can be reached.

    Metrics of a trial's tasks that are there together are written together. `problem` says why the
    store is away, or else what was wrong with the first record that it refused while it answered;
    later ones are still written.

    Args:
        ledger: the file, which may grow.
        store: takes the records.
        pause: waits so many seconds; False where nobody waits any longer for a store that is away.
        tell: takes what to let know while it happens: a word, and what it says.
    """

    def __init__(
        self,
        ledger: Path,
        store: Store,
        pause: Callable[[float], bool],
        tell: Callable[[str, str | None], None],
    ) -> None:
        self.problem: str | None = None
        self.read = 0
        self.refused = 0
        self._ledger = ledger
        self._store = store
        self._history = History(str(ledger))
        self._tree = RunTree(store, self._history)
        self._pause = pause
        self._tell = tell
        self._has_been_away = False
        self._offset = 0

    def catch_up(self) -> bool:
        """Writes what is there and not written yet; False where the store stays away.

        Raises:
            ValueError: at a line that is no record of a study, naming the file.
        """
        if not self._ledger.exists():
            return True
        for record, line in whole_lines(self._ledger, self._offset, self.read):
            if self._offset == 0 and record["kind"] != "study":
                raise ValueError(
                    f"a ledger must begin with a record of kind 'study', but line 1 of "
                    f"{self._ledger} is of kind {record['kind']!r}."
                )
            try:
                if self._history.add(record) and not self._write(record):
                    return False
            except ValueError as error:
                self._refuse(record, error)
            self._offset += len(line)
            self.read += 1
            if self.read == 1:
                self._tell("experiment", self._store.experiment)
        return self._write_held()

    @property
    def written(self) -> int:
        """How many of the records read are in the store."""
        return self.read - self.refused - self._tree.held_tasks

    def attach_report(self, report: Path) -> None:
        """Attaches what is in the folder of a report to the study's run, once there is one."""
        if self.read:
            self._tried(partial(self._tree.attach_report, report), self._refuse_report)

    def _write(self, record: Record) -> bool:
        """Writes a record, or says why it is refused; False where the store stays away."""
        if record["kind"] not in BETWEEN_TASKS and not self._write_held():
            return False
        return self._tried(partial(self._tree.write, record), partial(self._refuse, record))

    def _write_held(self) -> bool:
        """Writes the metrics that are held of each trial; False where the store stays away."""
        return all(
            self._tried(partial(self._tree.write_held, trial), partial(self._refuse_held, trial))
            for trial in self._tree.held
        )

    def _tried(self, write: Callable[[], None], refuse: Callable[[BaseException], None]) -> bool:
        """Writes, as often as it takes; False where the store stays away."""
        pauses, wait = iter(PAUSES), POLL_SECONDS
        while True:
            try:
                write()
                return True
            except self._store.errors as error:
                cause = _root(error)
                if self._store.answers():
                    pause = next(pauses, None)
                    if pause is None:
                        refuse(cause)
                        return True
                    self._pause(pause)
                    continue
                if not self._has_been_away:
                    self._has_been_away = True
                    self._tell("away", _in_one_line(cause))
                if not self._pause(wait):
                    self.problem = f"MLflow cannot be reached ({_in_one_line(cause)})."
                    return False
                wait = min(2 * wait, LONGEST_PAUSE)
            except UNEXPECTED as error:
                refuse(error)
                return True

    def _refuse_held(self, trial: str, cause: BaseException) -> None:
        for record in self._tree.drop_held(trial):
            self._refuse(record, cause)

    def _refuse_report(self, cause: BaseException) -> None:
        self.problem = self.problem or (f"MLflow could not take the report: {_in_one_line(cause)}.")

    def _refuse(self, record: Record, cause: BaseException) -> None:
        self.refused += 1
        self.problem = self.problem or (
            f"MLflow could not take a record of kind {record['kind']!r}: {_in_one_line(cause)}."
        )
        self._tree.give_up(record)


def replay(folder: StudyFolder, uri: str) -> tuple[int, str | None]:
    """Writes the whole ledger of a study's folder; what the store holds already stays single.

    Returns the number of records, and what went wrong (None: all of them are there).

    Raises:
        MistakeError: if another process writes this study's records; if its ledger holds none, or
            what is no record of a study or of a newer version.
    """

    def pause(seconds: float) -> bool:
        time.sleep(seconds)
        return False

    with folder.held(), folder.held(LOCK):
        path = folder.ledger
        writer = LedgerWriter(path, MLflowStore(uri, folder), pause, lambda word, text: None)
        try:
            # All of it first: of a ledger that is refused nothing is written.
            total = sum(1 for _ in whole_lines(path))
            if total == 0:
                raise ValueError(f"a ledger must hold a record of a study, but {path} holds none.")
            writer.catch_up()
            writer.attach_report(folder.report)
        except (ValueError, FileNotFoundError) as error:
            raise MistakeError(str(error)) from error
        except ModuleNotFoundError as error:
            kind = uri.partition("://")[0]
            raise MistakeError(
                f"A store at {kind}:// needs the Python package {error.name}, which must be "
                f"installed here: it comes with no extra of this project."
            ) from error
    written, problem = writer.written, writer.problem
    shown = without_secrets(uri)
    said = f"{written} of {total} records were written to {shown}: {problem}"
    return written, without_secrets(uri, said) if problem else None


def follow(folder: StudyFolder, uri: str) -> None:
    """Writes the records of a running study as they come, until nothing holds stdin open any more.

    Says on stdout, a JSON object a line, the id of the study's experiment ("experiment"), when the
    store cannot be reached for the first time ("away") and at the end what is missing ("failure",
    null for nothing).
    """
    ended = False

    def tell(word: str, text: str | None) -> None:
        _tell(word, text and without_secrets(uri, text))

    def pause(seconds: float) -> bool:
        """Waits so long, or until the study ends; False where it had ended before."""
        nonlocal ended
        if ended:
            time.sleep(min(seconds, POLL_SECONDS))
            return False
        ended = bool(select.select([sys.stdin], [], [], seconds)[0])
        return True

    while True:
        last = ended
        try:
            with folder.held(LOCK):
                store = MLflowStore(uri, folder)
                # Import and database take seconds of a core: spent here, while Ray is starting.
                store.answers()
                os.nice(NICENESS)
                writer = LedgerWriter(folder.ledger, store, pause, tell)
                searches = OptunaSearches(folder)
                there = writer.catch_up()
                while there and not last:
                    searches.catch_up()
                    pause(FOLLOW_SECONDS)
                    last = ended
                    there = writer.catch_up()
                searches.catch_up()
                writer.attach_report(folder.report)
                failure = writer.problem or searches.problem
                if writer.refused:
                    count = f"{writer.refused} of {writer.read} records"
                    failure = f"{failure} {count} could not be written."
        except MistakeError as error:
            # The writer of a session that was killed may still be at its last records.
            if not last:
                pause(POLL_SECONDS)
                continue
            failure = str(error)
        except ValueError as error:
            failure = f"MLflow could not take every record: {error}"
        except ImportError as error:
            failure = f"MLflow could not take any record: {_in_one_line(error)}."
        tell("failure", failure)
        return


def _root(error: BaseException) -> BaseException:
    """What an error began with: a connection's wraps several others, whose texts are long."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _in_one_line(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text[:400].rstrip(".")


def _tell(word: str, text: str | None) -> None:
    # A study that was killed does not listen any more; its records are written all the same.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps({word: text}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    follow(StudyFolder(Path(sys.argv[1])), os.environ[URI_VARIABLE])
