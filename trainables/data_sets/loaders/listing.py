"""Listing: what a format's files say of their images, before it is decided who is tested on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data_sets.index import Entry, Split

# What most published sets are parted into.
TRAIN_TEST: tuple[Split, ...] = ("train", "test")
# How folders and arrays name the parts of a set.
PARTS: Mapping[str, Split] = MappingProxyType(
    {
        "train": "train",
        "validation": "validation",
        "val": "validation",
        "valid": "validation",
        "test": "test",
    }
)


@dataclass(frozen=True, slots=True)
class Item:
    """An image: path relative to the folder (or "part#row"), label, split where the files say it.

    `content` is a word that changes with the image: size and times of its file (`file_mark`), or
    the hash of its archive.
    """

    path: str
    label: int
    split: Split | None
    content: str


@dataclass(frozen=True)
class Listing:
    """All images of a data set in the order of its files; `class_names` in label order.

    `notes` are sentences on what of the files is left out.
    """

    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    channels: int
    decode: Callable[[Entry], NDArray[np.uint8]]
    notes: tuple[str, ...] = ()


# Of these a value of 65535 is white; others do not say which of 16 bits are used.
FULL_RANGE = frozenset(("PNG", "PPM"))


class FileDecoder:
    """Reads one image file with Pillow, as RGB (3 channels) or grey (1).

    As torchvision's loader of image folders, which the published protocols use: transparency is
    left out (what it hides shows), orientations in EXIF are not applied, CMYK is converted without
    colour profiles. 16 bits a channel are brought to 8, to within one level.
    """

    def __init__(self, folder: Path, channels: int) -> None:
        self._folder = folder
        self._mode = {1: "L", 3: "RGB"}[channels]

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Pixels (h, w, channels).

        ValueError naming the file, if it is not there, no image can be read from it, or its
        values are floats or wide ones whose range the format does not say (TIFF).
        """
        # Only here: whoever checks a study file or reads an index needs no image library.
        from PIL import Image

        path = self._folder / entry.path
        with named(f"{path} must be an image that can be read"), Image.open(path) as image:
            # Pillow would cut these values off at 255.
            wide = image.mode == "F" or image.mode.startswith("I")
            if wide and (image.mode == "F" or image.format not in FULL_RANGE):
                raise ValueError(
                    f"it must have 8 bits a channel, or 16 in a PNG, PGM or PPM file, but is "
                    f"of Pillow's mode {image.mode!r} in {image.format}"
                )
            shown = Image.fromarray(_upper_bits(np.asarray(image))) if wide else image
            pixels = np.asarray(shown.convert(self._mode), np.uint8)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels


@contextmanager
def named(rule: str) -> Iterator[None]:
    """Raises ValueError of `rule`, which names a file, for whatever a library makes of its content.

    Torn and made-up files fail deep inside of a library, with any exception that there is.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{rule}: {str(error) or type(error).__name__}.") from error


def _upper_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values in [0, 65535] as bytes; as Pillow itself brings colours of 16 bits to 8."""
    return (values >> 8).astype(np.uint8)


class ArrayDecoder:
    """Takes rows of arrays that are read when first needed and not pickled with this object.

    `read` gives the images (n, h, w, channels) uint8 of each part ("train" of "train#12").
    """

    def __init__(self, read: Callable[[Path], dict[str, NDArray[np.uint8]]], path: Path) -> None:
        self._read = read
        self._path = path
        self._parts: dict[str, NDArray[np.uint8]] | None = None

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Pixels (h, w, channels); ValueError naming the file where there is no such row."""
        if self._parts is None:
            self._parts = self._read(self._path)
        part, _, row = entry.path.partition("#")
        if part not in self._parts or not 0 <= int(row) < len(self._parts[part]):
            raise ValueError(f"{self._path} has no image {entry.path}.")
        pixels: NDArray[np.uint8] = self._parts[part][int(row)]
        return pixels

    def __getstate__(self) -> dict[str, object]:
        return {"_read": self._read, "_path": self._path, "_parts": None}


def check_labels(
    file: Path, labels: Sequence[int] | NDArray[Any], images: int, classes: int
) -> None:
    """Refuses labels of an archive that are not one for each image or not in [0, classes)."""
    if len(labels) != images:
        raise ValueError(
            f"{file} must have a label for each of {images} images, but has {len(labels)}."
        )
    for row, label in enumerate(labels):
        if not 0 <= label < classes:
            raise ValueError(
                f"{file}: labels must be in [0, {classes - 1}], but row {row} has {label}."
            )


def text_lines(file: Path, content: str) -> list[str]:
    """Lines of a text file in UTF-8; ValueError naming it and the `content` that is expected."""
    try:
        # Names of files may hold what else splitlines takes for the end of a line.
        return file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must be there, in UTF-8, with {content}: {error}.") from error


def check_names(where: Path, names: Mapping[int, str]) -> None:
    """Refuses a class that two labels name; `where` is the file or folder that says so."""
    labels: dict[str, int] = {}
    for label, name in sorted(names.items()):
        first = labels.setdefault(name, label)
        if first != label:
            raise ValueError(
                f"{where}: a class must have one label, but {name!r} has {first} and {label}."
            )


def checked_names(where: str, names: Iterable[object]) -> tuple[str, ...]:
    """Names of classes as text, of bytes in UTF-8; `where` is the file and the key they stand in.

    ValueError naming both for bytes of another encoding, half a character, a NUL, a name that is
    empty or there twice.
    """
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        try:
            text = name.decode() if isinstance(name, bytes) else str(name)
            text.encode()
            if "\0" in text:
                raise UnicodeError("two bytes a letter, perhaps")
        except UnicodeError as error:
            latin = f" (in Latin-1 {name.decode('latin-1')!r})" if isinstance(name, bytes) else ""
            raise ValueError(
                f"{where} must be text or its UTF-8 bytes, but number {row} is {name!r}{latin}."
            ) from error
        if not text.strip():
            raise ValueError(f"{where} must not be empty, but number {row} is {name!r}.")
        first = rows.setdefault(text, row)
        if first != row:
            raise ValueError(f"{where} must differ, but numbers {first} and {row} are {text!r}.")
    return tuple(rows)
