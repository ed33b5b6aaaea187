"""ImageIndex: which images of files on disk belong to which class and split, and how to read one.

Reading an index opens no image: pixels are decoded one entry at a time, when somebody asks.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PIECE = 1 << 20  # bytes read at a time where a file is hashed


@dataclass(frozen=True, slots=True)
class Entry:
    """An image: its path relative to the root, or "file#row" for a row of an archive.

    Few data sets have entries of the split "validation": training images that they name themselves
    as those to be held out where `data.evaluation` is "validation".
    """

    path: str
    label: int
    split: Split


@dataclass(frozen=True)
class ImageIndex:
    """The images of a data set in a fixed order, with what is needed to read them.

    `class_names` are in label order (the natural class order). `decode` gives the pixels of an
    entry, uint8 (h, w, channels), and can be pickled; it raises a ValueError naming the file
    where that cannot be decoded. `fingerprint` keys the cache: it changes when paths, labels,
    splits or the content behind them change (of archives their hash; of single image files, which
    every trial would have to read, size and times of the last change) and differs between roots.
    `bicubic` is how images are resized for evaluation; see `DataConfig.test_view`.
    `notes` are sentences on what of the files is left out.
    """

    name: str
    root: Path
    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    channels: int
    decode: Callable[[Entry], NDArray[np.uint8]]
    fingerprint: str
    notes: tuple[str, ...] = ()
    bicubic: bool = False

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels (n,) of all entries."""
        return labels_of(self.entries)

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Positions among the entries of one split, ascending."""
        return rows_of(self.entries, split)

    def counts(self, split: Split) -> NDArray[np.int64]:
        """Images of each class (classes,) in one split."""
        return np.bincount(self.labels[self.rows(split)], minlength=len(self.class_names))


def labels_of(entries: tuple[Entry, ...]) -> NDArray[np.int64]:
    """Labels (n,) of all entries."""
    return np.fromiter((entry.label for entry in entries), np.int64, len(entries))


def rows_of(entries: tuple[Entry, ...], split: Split) -> NDArray[np.int64]:
    """Positions among the entries of one split, ascending."""
    return np.flatnonzero(
        np.fromiter((entry.split == split for entry in entries), bool, len(entries))
    )


def check_entries(name: str, entries: Iterable[Entry], class_names: tuple[str, ...]) -> None:
    """Refuses what no stream can be cut from.

    ValueError for an entry that comes twice, a label out of range, a split that is not one, a
    class without a training or without a test image, or without a validation image where others
    have one.
    """
    seen: set[str] = set()
    filled: dict[str, set[int]] = {split: set() for split in SPLITS}
    for entry in entries:
        if entry.path in seen:
            raise ValueError(f"{name}: every image must be listed once, but {entry.path} is twice.")
        seen.add(entry.path)
        if not 0 <= entry.label < len(class_names):
            raise ValueError(
                f"{name}: labels must be in [0, {len(class_names) - 1}], "
                f"but {entry.path} has {entry.label}."
            )
        if entry.split not in filled:
            raise ValueError(
                f"{name}: splits must be one of {list(SPLITS)}, "
                f"but {entry.path} has {entry.split!r}."
            )
        filled[entry.split].add(entry.label)
    needed = "a training and a test image"
    if filled["validation"]:
        needed = "a training, a test and, as others have one, a validation image"
    for split, labels in filled.items():
        empty = sorted(set(range(len(class_names))) - labels)
        if empty and (labels or split != "validation"):
            raise ValueError(
                f"{name}: every class needs {needed}, but class "
                f"{class_names[empty[0]]!r} has none in {split} "
                f"({len(empty)} of {len(class_names)} classes have none)."
            )


def fingerprint(
    root: Path, entries: Iterable[tuple[Entry, str]], class_names: tuple[str, ...]
) -> str:
    """sha256 over the root's real path, the class names and all entries with a word on each.

    The path belongs to it since sizes and times alone do not tell the files of two roots apart.
    """
    digest = hashlib.sha256(os.fsencode(root.resolve()) + b"\0")
    for class_name in class_names:
        digest.update(f"{class_name}\0".encode())
    for entry, content in entries:
        digest.update(f"{entry.path}\0{entry.label}\0{entry.split}\0{content}\n".encode())
    return digest.hexdigest()


def file_crc32(path: Path) -> int:
    """CRC-32 of a file's bytes; ValueError naming it where it cannot be read."""
    try:
        return zlib.crc32(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} must be a file that can be read: {error}.") from error


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
