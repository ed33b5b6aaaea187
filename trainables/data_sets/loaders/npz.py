"""Anybody's arrays: a .npz file with images, labels and, where it is decided, split."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data_sets.index import SPLITS, Split, file_sha256
from trainables.data_sets.loaders.listing import ArrayDecoder, Item, Listing, check_labels
from trainables.data_sets.loaders.memory import listed_once

IMAGES = "images"
# What numpy and zipfile raise for files that are torn, of another kind or without the images.
UNREADABLE = (
    OSError, ValueError, EOFError, AttributeError, KeyError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
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
    try:
        with np.load(path, allow_pickle=False) as file:
            images = file[IMAGES]
    except UNREADABLE as error:
        raise _no_npz(path, error) from error
    return {IMAGES: images.reshape(_checked_shape(path, images.shape, images.dtype))}


def _read(path: Path, channels: int, classes: int | None) -> Listing:
    arrays, shape = _load(path)
    count = shape[0]
    labels = arrays.get("labels")
    if labels is None or labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: labels must be {count} whole numbers, one per image.")
    names = arrays.get("class_names")
    total = int(labels.max()) + 1 if names is None else len(names)
    check_labels(path, labels, count, total)
    class_names = tuple(map(str, range(total) if names is None else names.tolist()))
    splits = _splits(path, arrays.get("split"), count)
    content = file_sha256(path)
    items = [
        Item(f"{IMAGES}#{row}", int(label), split, content)
        for row, (label, split) in enumerate(zip(labels, splits, strict=True))
    ]
    return Listing(tuple(items), class_names, shape[3], ArrayDecoder(read_images, path))


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], tuple[int, ...]]:
    """All arrays but the images, and the shape (n, h, w, channels) of these."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in LISTED if name in file.files}
            shape, kind = _header(file.zip)
    except UNREADABLE as error:
        raise _no_npz(path, error) from error
    return arrays, _checked_shape(path, shape, kind)


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


def _no_npz(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} must be a .npz file of plain arrays, one named images: {error}.")


def _splits(path: Path, split: NDArray[Any] | None, count: int) -> list[Split | None]:
    if split is None:
        return [None] * count
    words: list[Split | None] = [
        word if word == "test" else "train" for word in split.tolist() if word in SPLITS
    ]
    if split.shape != (count,) or len(words) != count:
        raise ValueError(f"{path}: split must be 'train' or 'test' for each of {count} images.")
    return words
