"""Archives are listed once a process: their files are hashed and taken apart in full for that."""

import copy
import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.data.loaders.listing import Listing

# Times of files may be as coarse as this: one that is younger may change unnoticed.
SETTLED_NS = 2 * 10**9
LISTINGS_KEPT = 4


@dataclass(frozen=True)
class _Mark:
    """What tells that the file under a path was changed or replaced."""

    path: str
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def listed_once(
    read: Callable[[Path, int, int | None], Listing],
    files: Iterable[Path],
    path: Path,
    channels: int,
    classes: int | None,
) -> Listing:
    """`read(path, channels, classes)`, or what it gave while `files`, all that it reads, were so.

    The last few listings are kept, pixels are not: each caller gets a decoder of its own.

    Raises:
        ValueError: as `read`.
    """
    # Before they are read: a file that changes meanwhile has another mark the next time.
    marks = tuple(_mark(file) for file in files)
    settled = time.time_ns() - SETTLED_NS
    known = [one for one in marks if one is not None and one.changed_ns <= settled]
    if len(known) < len(marks):
        return read(path, channels, classes)
    listing = _listed(read, path, channels, classes, tuple(known))
    return replace(listing, decode=copy.copy(listing.decode))


@functools.lru_cache(maxsize=LISTINGS_KEPT)
def _listed(
    read: Callable[[Path, int, int | None], Listing],
    path: Path,
    channels: int,
    classes: int | None,
    marks: tuple[_Mark, ...],
) -> Listing:
    """`marks` are there to tell one state of the files from another."""
    return read(path, channels, classes)


def _mark(file: Path) -> _Mark | None:
    """None where there is no such file: whoever reads it says so."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return _Mark(
        str(file), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    )
