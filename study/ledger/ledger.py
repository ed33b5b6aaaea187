"""The append-only record of a study: one JSON object a line, written by the driver alone."""

import json
import math
import numbers
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study.ledger import version1
from study.ledger.records import VERSION, Record

# The file in a study's folder.
LEDGER = "ledger.jsonl"


class Ledger:
    """Appends records to a file so that a kill at any moment loses at most the record in flight.

    A record counts only once its line end is on disk. A torn last line, left by a process that
    was killed while writing, is cut when the file is opened.

    Args:
        path: the file; it is made where it is not there.
        whole: bytes that its whole lines take, where the file has been read already.

    Raises:
        ValueError: if the file holds a broken line other than a torn last one, or is of a newer
            version.
    """

    def __init__(self, path: Path, whole: int | None = None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if whole is None:
            lines = whole_lines(path) if path.exists() else ()
            whole = sum(len(line) for _, line in lines)
        # Unbuffered: what write() has returned from is with the kernel, even if we are killed.
        self._file = path.open("ab", buffering=0)
        if self._file.tell() > whole:
            self._file.truncate(whole)

    def append(self, record: Record) -> Record:
        """Writes one record and waits until it is on disk; returns it as it can be read back.

        `time` (unix seconds) is added where it is absent; NaN and infinities become null.

        Raises:
            ValueError: if the record has no "kind".
            OSError: if it cannot be written, say on a full disk; the file is as it was before.
        """
        if not isinstance(record.get("kind"), str):
            raise ValueError(f"a record must have a 'kind', but got the keys {sorted(record)}.")
        stamped = record if "time" in record else {**record, "time": round(time.time(), 3)}
        written: Record = _plain(stamped)
        text = json.dumps(written, ensure_ascii=False, allow_nan=False)
        rest = memoryview(text.encode() + b"\n")
        start = self._file.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(start)
            raise
        return written

    def close(self) -> None:
        """Closes the file; nothing can be appended afterwards."""
        self._file.close()


def read_ledger(path: Path) -> list[Record]:
    """Reads all whole records in the order they were written; a torn last line is left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if any other line is not a record, naming the file and the line; or if the
            file is of a newer version, naming both.
    """
    return [record for record, _ in whole_lines(path)]


def check_version(record: Record, source: str) -> None:
    """Refuses a session (`study`, `resumed`) that a newer release wrote into `source`.

    Raises:
        ValueError: naming the version it has and the newest one known here; or if it has none.
    """
    if record["kind"] not in ("study", "resumed"):
        return
    version = record.get("version")
    if not isinstance(version, int):
        raise ValueError(
            f"a record of kind {record['kind']!r} must have a version, but in {source} it has "
            f"{version!r}."
        )
    if not 1 <= version <= VERSION:
        raise ValueError(
            f"a ledger must be of version {VERSION} at most to be read by this release, but "
            f"{source} has version {version}: it was written by a newer one; update this project."
        )


def whole_lines(path: Path, offset: int = 0, before: int = 0) -> Iterator[tuple[Record, bytes]]:
    """Yields each record with the bytes of its line, from a byte on, `before` lines into the file.

    Those of an older version are as they would be written today. Refuses what `read_ledger` does.
    """
    with path.open("rb") as file:
        old = _is_old(file.readline())
        file.seek(offset)
        for number, line in enumerate(file, start=before + 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"every line of a ledger must be a JSON object, but line {number} of {path} "
                    f"is not: {error}."
                ) from error
            if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
                raise ValueError(
                    f"every line of a ledger must be a JSON object with a 'kind', but line "
                    f"{number} of {path} is {line[:60].decode(errors='replace')!r}."
                )
            check_version(record, str(path))
            yield version1.upgraded(record) if old else record, line


def _is_old(line: bytes) -> bool:
    """Whether the first line of a ledger is of version 1."""
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("version") == version1.VERSION


def _plain(value: Any) -> Any:
    """Returns `value` in JSON's types: numpy numbers as Python's, NaN and infinities as None."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    raise TypeError(f"a record may hold JSON's types only, but got {value!r} ({type(value)}).")
