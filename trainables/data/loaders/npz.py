"""Anybody's arrays: a .npz file with images, labels and, where it is decided, split."""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.index import SPLITS, Split, file_sha256
from trainables.data.loaders.listing import ArrayDecoder, Item, Listing


def read(path: Path, channels: int, classes: int | None) -> Listing:
    """Lists the rows; `channels` and class names are the file's own.

    Raises:
        ValueError: naming the file and the array that does not fit.
    """
    arrays = _load(path, ("images", "labels", "split", "class_names"))
    images = _checked(path, arrays)
    labels = arrays.get("labels")
    if labels is None or labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: labels must be {len(images)} whole numbers, one per image.")
    names = arrays.get("class_names")
    total = int(labels.max()) + 1 if names is None else len(names)
    wrong = np.flatnonzero((labels < 0) | (labels >= total))
    if len(wrong):
        raise ValueError(
            f"{path}: labels must be in [0, {total - 1}], but row {wrong[0]} has "
            f"{labels[wrong[0]]}."
        )
    class_names = tuple(map(str, range(total) if names is None else names.tolist()))
    splits = _splits(path, arrays.get("split"), len(images))
    content = file_sha256(path)
    items = [
        Item(f"images#{row}", int(label), split, content)
        for row, (label, split) in enumerate(zip(labels, splits, strict=True))
    ]
    return Listing(tuple(items), class_names, images.shape[3], ArrayDecoder(read_images, path))


def read_images(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Images (n, h, w, channels) under "images"; ValueError naming the file."""
    return {"images": _checked(path, _load(path, ("images",)))}


def _load(path: Path, wanted: Iterable[str]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in wanted if name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} must be a .npz file of plain arrays: {error}.") from error


def _checked(path: Path, arrays: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """The images with a channel dimension."""
    images = arrays.get("images")
    if images is not None and images.ndim == 3:
        images = images[..., None]
    if images is None or images.ndim != 4 or not len(images) or images.dtype != np.uint8:
        raise ValueError(f"{path}: images must be uint8 (n, h, w) or (n, h, w, channels).")
    if images.shape[3] not in (1, 3):
        raise ValueError(f"{path}: images must have 1 or 3 channels, but have {images.shape[3]}.")
    return images.astype(np.uint8, copy=False)


def _splits(path: Path, split: NDArray[Any] | None, count: int) -> list[Split | None]:
    if split is None:
        return [None] * count
    words: list[Split | None] = [
        one if one == "test" else "train" for one in split.tolist() if one in SPLITS
    ]
    if split.shape != (count,) or len(words) != count:
        raise ValueError(f"{path}: split must be 'train' or 'test' for each of {count} images.")
    return words
