"""CIFAR-100, python version: pickled batches "train" and "test", names in "meta"."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data_sets.index import file_sha256
from trainables.data_sets.loaders.listing import (
    TRAIN_TEST,
    ArrayDecoder,
    Item,
    Listing,
    check_labels,
    checked_names,
)
from trainables.data_sets.loaders.memory import listed_once

SIDE = 32
PIXELS = 3 * SIDE * SIDE


def read(path: Path, channels: int, classes: int | None) -> Listing:
    """Lists both batches with their fine labels, once a process; ValueError naming the file."""
    files = [path / name for name in ("meta", *TRAIN_TEST)]
    return listed_once(_read, files, path, channels, classes)


def read_images(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Images (n, 32, 32, 3) of both batches; ValueError naming the file that is none."""
    return {split: _images(path / split, load(path / split)) for split in TRAIN_TEST}


def _read(path: Path, channels: int, classes: int | None) -> Listing:
    key = "fine_label_names"
    class_names = checked_names(f"{path / 'meta'}: {key}", _strings(path / "meta", key))
    items = []
    for split in TRAIN_TEST:
        file = path / split
        labels = _labels(file, len(class_names))
        content = file_sha256(file)
        items += [Item(f"{split}#{row}", label, split, content) for row, label in enumerate(labels)]
    return Listing(tuple(items), class_names, channels, ArrayDecoder(read_images, path))


def _images(file: Path, batch: Mapping[str, Any]) -> NDArray[np.uint8]:
    data = batch.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (PIXELS,):
        raise ValueError(f"{file} must hold images as uint8 (n, {PIXELS}) under 'data'.")
    return data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _labels(file: Path, classes: int) -> list[int]:
    batch = load(file)
    labels = batch.get("fine_labels")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{file} must hold a list of numbers under 'fine_labels'.")
    check_labels(file, labels, len(_images(file, batch)), classes)
    return labels


def _strings(file: Path, key: str) -> list[Any]:
    names = load(file).get(key)
    if not isinstance(names, list) or not names:
        raise ValueError(f"{file} must hold a list of names under {key!r}.")
    return names


def load(file: Path) -> dict[str, Any]:
    """A pickled dictionary of lists, strings, numbers and uint8 arrays: nothing else is made.

    ValueError naming the file, if it is torn, no dictionary, too large for the memory, or asks
    for anything else.
    """
    try:
        # Written by Python 2: its strings are bytes, which latin1 takes over one by one.
        batch = _ArraysOnly(io.BytesIO(file.read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise ValueError(f"{file} must be there and readable: {error}.") from error
    # A torn or made-up pickle fails in any of these ways: the last three by what it announces.
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError,
        OverflowError, MemoryError, SystemError,
    ) as error:  # fmt: skip
        why = str(error) or type(error).__name__
        raise ValueError(f"{file} must be a batch of CIFAR: {why}.") from error
    if not isinstance(batch, dict):
        raise ValueError(f"{file} must hold a dictionary, but holds a {type(batch).__name__}.")
    return batch


def _bytes_of(text: str, encoding: str) -> bytes:
    """What Python 3 writes for bytes under old protocols: text that is to be encoded."""
    return text.encode(encoding)


def _empty(*_: object) -> NDArray[np.uint8]:
    """What numpy's _reconstruct gives: an array that its state fills afterwards."""
    return np.empty(0, np.uint8)


def _uint8(kind: str, *_: object) -> np.dtype[np.uint8]:
    """The one type of numbers that images have; UnpicklingError for others."""
    if kind not in ("u1", "|u1"):
        raise pickle.UnpicklingError(f"arrays must be uint8 (u1), but it has one of {kind!r}")
    return np.dtype(np.uint8)


# What a pickled array is made with. ndarray only stands for its own name: nothing may call it.
ALLOWED = MappingProxyType({"_reconstruct": _empty, "ndarray": "ndarray", "dtype": _uint8})


class _ArraysOnly(pickle.Unpickler):
    """Makes arrays of uint8; anything else that a pickle names is refused, never called."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The one thing of that name that is allowed; UnpicklingError for others."""
        if (module_name, global_name) == ("_codecs", "encode"):
            return _bytes_of
        if module_name.split(".")[0] == "numpy" and global_name in ALLOWED:
            return ALLOWED[global_name]
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which is not allowed")
