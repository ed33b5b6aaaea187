"""Archives are listed once a process: their files are hashed and taken apart in full for that."""

import copy
import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from trainables.data_sets.loaders.listing import Listing

# Times of files may be as coarse as this: one that is younger may change unnoticed.
SETTLED_NS = 2 * 10**9
LISTINGS_KEPT = 4


# What tells that the file under a path was changed or replaced; last, when its inode changed (ns).
Mark: TypeAlias = tuple[str, int, int, int, int, int]


def listed_once(
    read: Callable[[Path, int, int | None], Listing],
    files: Iterable[Path],
    path: Path,
    channels: int,
    classes: int | None,
) -> Listing:
    """`read(path, channels, classes)`, or what it gave while `files`, all that it reads, were so.

    The last few listings are kept, pixels are not: each caller gets a decoder of its own.
    ValueError as `read`.
    """
    # Before they are read: a file that changes meanwhile has another mark the next time.
    marks = tuple(_mark(file) for file in files)
    settled = time.time_ns() - SETTLED_NS
    known = [mark for mark in marks if mark is not None and mark[-1] <= settled]
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
    marks: tuple[Mark, ...],
) -> Listing:
    """`marks` are there to tell one state of the files from another."""
    return read(path, channels, classes)


def _mark(file: Path) -> Mark | None:
    """None where there is no such file: whoever reads it says so."""
    try:
        stat = file.stat()
    except OSError:
        return None
    times = stat.st_mtime_ns, stat.st_ctime_ns
    return (str(file), stat.st_dev, stat.st_ino, stat.st_size, *times)
