"""Journal: a ledger that is being written, its history, and storage that takes nothing more."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from study.errors import LostError
from study.ledger import records
from study.ledger.folder import StudyFolder
from study.ledger.history import History
from study.ledger.records import Record
from study.system import say

# Of a disk that is full or gone; whatever else is tried would fail for the same reason.
CODES = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
)
# What tempfile says where none of its folders takes a file.
NOWHERE = "No usable temporary directory found"
# What torch.save says, without the reason, where a file cannot be written to its end.
OF_TORCH = ("PytorchStreamWriter failed", "iostream error", "] . unexpected pos ")
# Errors of other processes and libraries bring the text alone.
TEXTS = (*(os.strerror(code) for code in CODES), NOWHERE, *OF_TORCH)


class Journal:
    """Brings each record to the ledger first, then to the history, then to those who listen.

    `write` appends a record to the ledger and returns it as it can be read back. A listener that
    raises is said once, on standard error, and not called again: the record stands.
    """

    def __init__(
        self,
        write: Callable[[Record], Record],
        history: History,
        listeners: Sequence[Callable[[Record], None]] = (),
    ) -> None:
        self.write = write
        self.history = history
        self._listeners = list(listeners)

    def through(self, write: Callable[[Record], Record]) -> "Journal":
        """The same journal, whose records go through `write` on their way to the ledger."""
        journal = Journal(write, self.history)
        journal._listeners = self._listeners
        return journal

    def append(self, record: Record) -> None:
        """Takes the next record of the study.

        How a completed trial ended stays what it was: a second end is said and dropped.

        Raises:
            ValueError: if the history cannot take it.
            StorageError: if the ledger cannot.
        """
        if record["kind"] == "end" and self.history.refuses(record):
            status, trial = record.get("status"), record["trial"]
            say(f"Warning: trial {trial} has completed; {status!r} is not recorded.", error=True)
            return
        written = self.write(record)
        self.history.add(written)
        for listener in tuple(self._listeners):
            try:
                listener(written)
            except Exception as error:  # noqa: BLE001 (of whatever kind: the record comes first)
                self._listeners.remove(listener)
                reason = f"{type(error).__name__}: {error}"
                told = f"What listens to the records of the study failed ({reason})"
                say(f"{told}: going on without it.", error=True)

    def warn(self, texts: Iterable[str]) -> None:
        """Records each warning that the history does not have; errors as in `append`."""
        for text in texts:
            if text not in self.history.warnings:
                self.append(records.warning(text))


class StorageError(LostError):
    """A study cannot go on since its storage takes nothing more; the message says what to do."""


def storage_error(folder: StudyFolder, cause: BaseException | str) -> StorageError:
    """The error to stop the study of a folder with."""
    places = {folder.path.resolve(): "its folder"}
    # There may be none that takes a file.
    with contextlib.suppress(OSError):
        places.setdefault(Path(tempfile.gettempdir()), "temporary files")
    free = ", ".join(f"{_free(path)} in {path} ({what})" for path, what in places.items())
    again = f"go on with: {folder.command('--resume')}"
    if not _has_records(folder):
        again = f"start it again, with the same --output if you like: {folder.path} has no records"
    return StorageError(
        f"the study cannot be written: {_reason(cause)}. Free here: {free}. "
        f"Make room, or bring the storage back, and {again}"
    )


def _has_records(folder: StudyFolder) -> bool:
    """Whether there is something to be gone on from; yes where that cannot be told."""
    try:
        return folder.ledger.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, tells of storage that takes nothing more."""
    return any(
        (isinstance(found, OSError) and found.errno in CODES) or _tells(str(found))
        for found in _chain(error)
    )


def _tells(text: str) -> bool:
    return any(told in text for told in TEXTS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, Ray's way (`cause`) and Python's."""
    seen: list[BaseException | None] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is not None and found not in seen:
            seen.append(found)
            yield found
            waiting += [getattr(found, "cause", None), found.__cause__, found.__context__]


def _reason(cause: BaseException | str) -> str:
    """The line of an error, which may be a whole traceback, that tells of storage."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or ["?"]
    return ([line for line in lines if _tells(line)] or lines)[-1].rstrip(".")


def _free(path: Path) -> str:
    try:
        usage, found = shutil.disk_usage(path), os.statvfs(path)
    except OSError as error:
        return f"unknown ({error.strerror})"
    # A disk can be full of small files.
    files = ", but no further file," if found.f_files and not found.f_favail else ""
    return f"{usage.free / 1e9:.2f} of {usage.total / 1e9:.2f} GB{files}"
