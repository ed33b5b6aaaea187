"""The append-only record of a study: one JSON object a line, written by the driver alone."""

import json
import math
import numbers
import os
import re
import shlex
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study.ledger import version1
from study.ledger.records import VERSION, Record

# The file in a study's folder.
LEDGER = "ledger.jsonl"
# How a line ends whose checksum is there: the CRC-32 of all bytes before, as its last entry. What
# reads lines of JSON reads it as one entry more.
CRC_START, CRC_END = b', "crc": "', b'"}\n'
CRC_BYTES = len(CRC_START) + 8 + len(CRC_END)


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

        Its line gets a checksum, see `line_of`; the record has none.

        `time` (unix seconds) is added where it is absent; NaN and infinities become null.

        Raises:
            ValueError: if the record has no "kind".
            OSError: if it cannot be written, say on a full disk; the file is as it was before.
        """
        if not isinstance(record.get("kind"), str):
            raise ValueError(f"a record must have a 'kind', but got the keys {sorted(record)}.")
        stamped = record if "time" in record else {**record, "time": round(time.time(), 3)}
        written: Record = _plain(stamped)
        rest = memoryview(line_of(written))
        start = self._file.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(start)
            raise
        return written

    def is_lost(self) -> bool:
        """Whether its file is not at its path any more: it, or a folder, was deleted or renamed."""
        own = os.fstat(self._file.fileno())
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            # A disk that is away for a moment.
            return False
        return (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino)

    def save(self, path: Path) -> None:
        """Copies all that was written, wherever its file is now, to a new one."""
        with Path(f"/proc/self/fd/{self._file.fileno()}").open("rb") as file:
            path.write_bytes(file.read())

    def close(self) -> None:
        """Closes the file; nothing can be appended afterwards."""
        self._file.close()


def line_of(record: Record) -> bytes:
    """The line of a record in JSON's types, closed by its checksum."""
    start = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()[:-1]
    return b"%s%s%08x%s" % (start, CRC_START, zlib.crc32(start), CRC_END)


def has_checksum(line: bytes) -> bool:
    """Whether a line of a ledger ends in a checksum, right or wrong."""
    return line.startswith(CRC_START, -CRC_BYTES) and line.endswith(CRC_END)


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
    if type(version) is not int:
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
        checked = False
        for number, line in enumerate(file, start=before + 1):
            if not line.endswith(b"\n"):
                return
            sound = has_checksum(line)
            try:
                record = _parsed(line, sound)
                # Only an older release, which knows no checksums, goes on without them.
                if checked and not sound and record["kind"] != "resumed":
                    raise ValueError("it has no checksum, but the lines before it have one")
                checked = sound
                record = version1.upgraded(record) if old else record
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise ValueError(_broken(path, number, line, error)) from error
            check_version(record, str(path))
            yield record, line


def _parsed(line: bytes, checked: bool) -> Record:
    """The record of a line, without its checksum.

    Raises:
        ValueError: if the line is none, or not what was written.
    """
    if checked:
        found, said = zlib.crc32(memoryview(line)[:-CRC_BYTES]), line[-8 - len(CRC_END) : -3]
        if said != b"%08x" % found:
            raise ValueError("it is not what was written: its checksum does not fit")
    try:
        record = _DECODER.decode(line.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise ValueError(f"it has no 'kind': {line[:60].decode(errors='replace')!r}")
    record.pop("crc", None)
    # What no text can be written with.
    if b"\\u" in line and _SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        raise ValueError("it has half a character (a lone surrogate)")
    return record


def _no_number(name: str) -> Any:
    raise ValueError(f"it has {name}, which JSON lacks")


_DECODER = json.JSONDecoder(parse_constant=_no_number)
_SURROGATE = re.compile("[\ud800-\udfff]")


def _broken(path: Path, number: int, line: bytes, error: Exception) -> str:
    """Says what is wrong with a line, and how to go on."""
    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return (
        f"every line of a ledger must be a record as it was written, but line {number} of {path} "
        f"is not: {reason.rstrip('.')}. {remedy(path, number)}"
    )


def remedy(path: Path | str, number: int) -> str:
    """What to do about a line that cannot be read: all before it is kept, the rest runs again."""
    if number == 1:
        return "Nothing of the study can be told without its first line: take it from a copy."
    file, kept = shlex.quote(str(path)), shlex.quote(f"{path}.broken")
    return (
        f"Take that line from a copy; or keep what came before it, and --resume runs the rest "
        f"again: mv {file} {kept} && head -n {number - 1} {kept} > {file}"
    )


def _is_old(line: bytes) -> bool:
    """Whether the first line of a ledger is of version 1."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
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
