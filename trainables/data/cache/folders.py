"""Folders of caches among processes: locked when written, marked when opened, removed when old."""

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

IMAGES, TABLE, HEADER = "images.bin", "table.npy", "header.json"
FEATURES, NEW_HEADER = "features.bin", "header.json.partial"
FILES = {IMAGES, TABLE, HEADER, FEATURES, NEW_HEADER}
UNUSED_DAYS = 30
MOST_LETTERS = 48
DAY = 24 * 60 * 60  # seconds

# NAME-KEY, and beside it what is being written and the lock.
OURS = re.compile(r"(.+-[0-9a-f]{24})(?:\.lock|\.partial-\d+)?")

logger = logging.getLogger(__name__)


def file_name(name: str) -> str:
    """What stands for a data set in names of files: letters, digits and "_", not too many."""
    # A letter takes up to four bytes, and a system's names may have 255.
    return "".join(letter if letter.isalnum() else "_" for letter in name)[:MOST_LETTERS]


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Holds the lock of a cache's folder, which the system takes back from a process that dies.

    Gives whether it is held: without `wait` not where another process has it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A file that only stands for a lock would outlive a process that dies.
    lock = FileLock(_lock_of(folder), fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def mark_used(folder: Path) -> None:
    """Notes that a cache was opened now, where this process may write; elsewhere nothing does."""
    with suppress(OSError):
        os.utime(folder / HEADER)


def remove_unused(root: Path) -> list[str]:
    """Removes the caches below `root` that no process has opened for 30 days; a line on each.

    So it does with what killed processes left half-written, and with locks of neither. Nothing
    is removed whose lock another process holds, or that holds other files than a cache's; a
    process that still maps a removed cache keeps its pages.
    """
    if not root.is_dir():
        return []
    names = {match[1] for path in root.iterdir() if (match := OURS.fullmatch(path.name))}
    lines: list[str] = []
    for name in sorted(names):
        try:
            lines += _remove(root / name, time.time() - UNUSED_DAYS * DAY)
        except OSError as error:  # of another user, or mounted for reading only
            logger.warning("the cache %s is unused, but cannot be removed: %s", root / name, error)
    return lines


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove(folder: Path, limit: float) -> list[str]:
    """Removes what was last used before `limit` (seconds since the epoch) under one name."""
    there = _parts(folder)
    if there and all(_last_used(part) >= limit for part in there):
        return []
    lines = []
    with locked(folder, wait=False) as held:
        if not held:
            return []
        for part in _parts(folder):
            used = _last_used(part)
            if used < limit:
                days = (time.time() - used) / DAY
                size = sum(file.stat().st_size for file in part.iterdir()) / 2**20
                shutil.rmtree(part)
                lines.append(f"removed {part}: {size:.1f} MiB, unused for {days:.0f} days")
        if not _parts(folder):
            _lock_of(folder).unlink()
    return lines


def _parts(folder: Path) -> list[Path]:
    """The cache and its half-written ones, where they are folders with a cache's files only."""
    named = (folder, *sorted(folder.parent.glob(f"{folder.name}.partial-*")))
    return [path for path in named if path.is_dir() and not path.is_symlink() and _is_ours(path)]


def _is_ours(part: Path) -> bool:
    try:
        return {path.name for path in part.iterdir()} <= FILES
    except FileNotFoundError:  # another process has renamed or removed it
        return False


def _last_used(part: Path) -> float:
    """Seconds since the epoch at which it was last written to or marked."""
    try:
        return max(path.stat().st_mtime for path in (part, *part.iterdir()))
    except FileNotFoundError:  # another process is at it
        return time.time()
