"""The 8 × 8 digits that come with scikit-learn, where it is installed."""

import hashlib
import importlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data_sets.loaders.listing import ArrayDecoder, Item, Listing

LEVELS = 16  # grey levels above black


def read(path: Path, channels: int, classes: int | None) -> Listing:
    """Lists the 1,797 images, white on black, unsplit; ValueError without scikit-learn."""
    images, labels = _load()
    content = hashlib.sha256(images.tobytes()).hexdigest()
    items = tuple(
        Item(f"digits#{row}", int(label), None, content) for row, label in enumerate(labels)
    )
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return Listing(items, names, channels, ArrayDecoder(read_images, path))


def read_images(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Images (n, 8, 8, 1) under "digits"."""
    return {"digits": _load()[0]}


def _load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        # Optional, and seconds to import.
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise ValueError(
            "data.name digits needs scikit-learn, which is not installed: pip install scikit-learn."
        ) from error
    bunch = datasets.load_digits()
    images = np.rint(bunch.images * (255 / LEVELS)).astype(np.uint8)
    return images[..., None], bunch.target.astype(np.int64)
