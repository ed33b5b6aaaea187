"""Data sets by name: one function and one entry each, giving arrays of labelled images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from trainables import catalog
from trainables.config_groups import DataConfig
from trainables.data.icons import load_icons, unseen_family_split

UNSEEN_FAMILY_SHARE = 0.3


@dataclass(frozen=True)
class LabelledArrays:
    """Images uint8 (n, channels, height, width) with labels int64 (n,), by split."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def load_arrays(config: DataConfig) -> LabelledArrays:
    """Loads the data set named by `config`; the catalog has refused unknown names before."""
    return SOURCES[config.name](config)


def _icons(config: DataConfig) -> LabelledArrays:
    icons = load_icons(config.image_size)
    test = icons.is_test
    if config.split == "unseen_family":
        test = unseen_family_split(icons, UNSEEN_FAMILY_SHARE, seed=0)
    images = icons.images[:, None]
    return LabelledArrays(
        images[~test], icons.labels[~test], images[test], icons.labels[test], icons.class_names
    )


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

    train_images, train_labels = draw(20)
    test_images, test_labels = draw(10)
    names = tuple(f"gaussian_{label:02d}" for label in range(info.classes))
    return LabelledArrays(train_images, train_labels, test_images, test_labels, names)


SOURCES: Mapping[str, Callable[[DataConfig], LabelledArrays]] = MappingProxyType(
    {"icons": _icons, "gaussian": _gaussian}
)
