"""Anybody's arrays: a .npz file with images, labels and, where it is decided, split."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data_sets.index import Split, file_sha256
from trainables.data_sets.loaders.listing import (
    PARTS,
    ArrayDecoder,
    Item,
    Listing,
    check_labels,
    checked_names,
    named,
)
from trainables.data_sets.loaders.memory import listed_once

IMAGES = "images"
# Kinds of numpy's types that stand for names: bytes, texts, numbers, truth values.
NAMES = "SUiufb"
MOST_NAMED = 8
LISTED = ("labels", "split", "class_names")
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path: Path, channels: int, classes: int | None) -> Listing:
    """Lists the rows; `channels` and class names are the file's own.

    Of the images only shape and type are read, but the whole file is hashed; once a process.
    ValueError naming the file and the array that does not fit.
    """
    return listed_once(_read, [path], path, channels, classes)


def read_images(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Images (n, h, w, channels) under "images"; ValueError naming the file."""
    with _opened(path) as file:
        images = file[IMAGES]
    return {IMAGES: images.reshape(_checked_shape(path, images.shape, images.dtype))}


def _read(path: Path, channels: int, classes: int | None) -> Listing:
    arrays, shape, unread = _load(path)
    count = shape[0]
    labels = arrays.get("labels")
    if labels is None or labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: labels must be {count} whole numbers, one per image.")
    names = arrays.get("class_names")
    if names is not None and (names.ndim != 1 or names.dtype.kind not in NAMES):
        raise ValueError(f"{path}: class_names must be texts, one per class.")
    total = int(labels.max()) + 1 if names is None else len(names)
    if names is None and total > count:
        raise ValueError(
            f"{path}: labels must be 0, 1, … with an image each, but {count} images have labels up "
            f"to {total - 1}."
        )
    check_labels(path, labels, count, total)
    listed = range(total) if names is None else names.tolist()
    class_names = checked_names(f"{path}: class_names", listed)
    splits = _splits(path, arrays.get("split"), count)
    content = file_sha256(path)
    items = [
        Item(f"{IMAGES}#{row}", int(label), split, content)
        for row, (label, split) in enumerate(zip(labels, splits, strict=True))
    ]
    decode = ArrayDecoder(read_images, path)
    return Listing(tuple(items), class_names, shape[3], decode, _notes(unread))


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], tuple[int, ...], list[str]]:
    """All arrays but the images, the shape (n, h, w, channels) of these, and what nothing reads."""
    with _opened(path) as file:
        arrays = {name: file[name] for name in LISTED if name in file.files}
        shape, kind = _header(file.zip)
        unread = sorted(set(file.files).difference(LISTED, [IMAGES]))
    return arrays, _checked_shape(path, shape, kind), unread


def _notes(unread: list[str]) -> tuple[str, ...]:
    """A sentence on the arrays that nothing reads, where there are any."""
    if not unread:
        return ()
    more = f" and {len(unread) - MOST_NAMED} more" if len(unread) > MOST_NAMED else ""
    told = ", ".join(map(repr, unread[:MOST_NAMED])) + more
    arrays = "1 array is" if len(unread) == 1 else f"{len(unread)} arrays are"
    return (f"{arrays} not read: {told} (known are {', '.join((IMAGES, *LISTED))}).",)


def _header(archive: zipfile.ZipFile) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the images, whose pixels are not unpacked; KeyError without any."""
    with archive.open(f"{IMAGES}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise ValueError(f"its images are of version {version} of the format npy")
        shape, _, kind = HEADERS[version](member)
    return shape, kind


def _checked_shape(path: Path, shape: tuple[int, ...], kind: np.dtype[Any]) -> tuple[int, ...]:
    """The shape with a channel dimension."""
    if len(shape) == 3:
        shape = (*shape, 1)
    if len(shape) != 4 or not shape[0] or kind != np.uint8:
        raise ValueError(f"{path}: images must be uint8 (n, h, w) or (n, h, w, channels).")
    if shape[3] not in (1, 3):
        raise ValueError(f"{path}: images must have 1 or 3 channels, but have {shape[3]}.")
    return shape


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file while its arrays are read; ValueError naming it for whatever is wrong with it."""
    rule = f"{path} must be a .npz file of plain arrays, one named {IMAGES}"
    with named(rule), np.load(path, allow_pickle=False) as file:
        if len(set(file.files)) < len(file.files):
            raise ValueError("an array is in it twice")
        yield file


def _splits(path: Path, split: NDArray[Any] | None, count: int) -> list[Split | None]:
    if split is None:
        return [None] * count
    known = {word: part for name, part in PARTS.items() for word in (name, name.encode())}
    words = split.ravel().tolist()
    odd = [word for word in words if word not in known]
    if odd or split.shape != (count,):
        raise ValueError(
            f"{path}: split must be 'train', 'validation' (or 'val', 'valid') or 'test' for each "
            f"of {count} images, but {f'has {odd[0]!r}' if odd else f'is of shape {split.shape}'}."
        )
    return [known[word] for word in words]
