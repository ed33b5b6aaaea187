"""Data sets by name: one function and one entry each, giving arrays of labelled images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from trainables import catalog
from trainables.config_groups import DataConfig
from trainables.data.cache import PackedImages, cached_images
from trainables.data.decoding import DecodedImages, stored_side
from trainables.data.file_sets import index_of
from trainables.data.icons import load_icons, unseen_family_split

UNSEEN_FAMILY_SHARE = 0.3


@dataclass(frozen=True)
class LabelledArrays:
    """All images of a data set with labels int64 (n,), and the rows of each split, ascending.

    `images` are uint8 (n, channels, size, size), or of different sizes, read from files.
    """

    images: NDArray[np.uint8] | PackedImages | DecodedImages
    labels: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    class_names: tuple[str, ...]


def load_arrays(config: DataConfig) -> LabelledArrays:
    """Loads the data set named by `config`; that of files is decoded here where it is not yet.

    Raises:
        ValueError: if files are missing or corrupt, or their classes are not as many as when
            the config was checked.
        OSError: if there is no room for the decoded images.
    """
    if config.name in SOURCES:
        return SOURCES[config.name](config)
    index = index_of(config)
    # What a process knows of folder:NAME it reads once; files may change while it runs.
    if len(index.class_names) != config.info.classes:
        raise ValueError(
            f"data.name {config.name} must have the {config.info.classes} classes that it had "
            f"when its config was checked, but its files have {len(index.class_names)} now."
        )
    side = stored_side(index, config.image_size)
    images = DecodedImages(index, side) if config.cache == "off" else cached_images(index, side)
    return LabelledArrays(
        images, index.labels, index.rows("train"), index.rows("test"), index.class_names
    )


def _icons(config: DataConfig) -> LabelledArrays:
    icons = load_icons(config.image_size)
    test = icons.is_test
    if config.split == "unseen_family":
        test = unseen_family_split(icons, UNSEEN_FAMILY_SHARE, seed=0)
    train, held_out = np.flatnonzero(~test), np.flatnonzero(test)
    return LabelledArrays(icons.images[:, None], icons.labels, train, held_out, icons.class_names)


def _gaussian(config: DataConfig) -> LabelledArrays:
    """Classes are random images, their members the class image plus noise: 20 + 10 a class."""
    rng = np.random.default_rng(0)
    info = catalog.dataset("gaussian")
    shape = (info.channels, config.image_size, config.image_size)
    centres = rng.normal(128.0, 40.0, (info.classes, *shape))

    def draw(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        labels = np.repeat(np.arange(info.classes), count)
        noise = rng.normal(0.0, 25.0, (len(labels), *shape))
        return np.clip(centres[labels] + noise, 0, 255).astype(np.uint8), labels

    (train_images, train_labels), (test_images, test_labels) = draw(20), draw(10)
    rows = np.arange(len(train_labels) + len(test_labels))
    return LabelledArrays(
        images=np.concatenate([train_images, test_images]),
        labels=np.concatenate([train_labels, test_labels]),
        train_rows=rows[: len(train_labels)],
        test_rows=rows[len(train_labels) :],
        class_names=tuple(f"gaussian_{label:02d}" for label in range(info.classes)),
    )


SOURCES: Mapping[str, Callable[[DataConfig], LabelledArrays]] = MappingProxyType(
    {"icons": _icons, "gaussian": _gaussian}
)
