"""Fashion-MNIST: idx files of images and labels, packed with gzip or not."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data_sets.index import Split, file_sha256
from trainables.data_sets.loaders.listing import ArrayDecoder, Item, Listing, check_labels
from trainables.data_sets.loaders.memory import listed_once

PREFIXES: dict[Split, str] = {"train": "train", "test": "t10k"}
IMAGES, LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"
NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
UNSIGNED_BYTE = 8


def read(path: Path, channels: int, classes: int | None) -> Listing:
    """Lists both splits (28 × 28, white on black), once a process; ValueError naming the file."""
    files = [find(path, prefix + part) for prefix in PREFIXES.values() for part in (IMAGES, LABELS)]
    return listed_once(_read, files, path, channels, classes)


def _read(path: Path, channels: int, classes: int | None) -> Listing:
    items = []
    for split, prefix in PREFIXES.items():
        images, file = find(path, prefix + IMAGES), find(path, prefix + LABELS)
        labels = read_idx(file, 1)
        check_labels(file, labels, image_count(images), len(NAMES))
        content = file_sha256(images)
        items += [
            Item(f"{split}#{row}", int(label), split, content) for row, label in enumerate(labels)
        ]
    return Listing(tuple(items), NAMES, channels, ArrayDecoder(read_images, path))


def read_images(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Images (n, h, w, 1) of both splits; ValueError naming a file that cannot be read."""
    return {
        split: read_idx(find(path, prefix + IMAGES), 3)[..., None]
        for split, prefix in PREFIXES.items()
    }


def find(folder: Path, name: str) -> Path:
    """The file of that name, packed or not; ValueError where there is none."""
    for file in (folder / f"{name}.gz", folder / name):
        if file.is_file():
            return file
    raise ValueError(f"{folder / name}.gz must be there (or without .gz).")


def image_count(file: Path) -> int:
    """Number of rows that the header of an idx file announces."""
    return int.from_bytes(_unpacked(file, 8)[4:8], "big")


def read_idx(file: Path, dimensions: int) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes as an array; ValueError naming one that is not."""
    content = _unpacked(file)
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise ValueError(f"{file} must be an idx file of bytes with {dimensions} dimensions.")
    shape = tuple(int(length) for length in np.frombuffer(content[4:start], ">u4"))
    expected = start + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise ValueError(f"{file} must have {expected} bytes unpacked, but has {len(content)}.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _unpacked(file: Path, size: int = -1) -> bytes:
    try:
        if file.suffix == ".gz":
            with gzip.open(file, "rb") as packed:
                return packed.read(size)
        with file.open("rb") as plain:
            return plain.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file} cannot be read: {error}.") from error
