"""Data sets by name: one function and one entry each, giving images and their split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainables.config import DataConfig, catalog
from trainables.data.cache.cache import PackedImages, cached_images
from trainables.data.cache.decoding import DecodedImages, stored_side
from trainables.data.embedded import gaussian_manifest, icons_manifest
from trainables.data.prepare import index_of, manifest_of
from trainables.data_sets.icons.icon_set import load_icons
from trainables.data_sets.index import SPLITS, labels_of, rows_of
from trainables.data_sets.manifest import Manifest

Stored: TypeAlias = NDArray[np.uint8] | PackedImages | DecodedImages


@dataclass(frozen=True)
class LabelledArrays:
    """All images of a data set with labels int64 (n,), and the rows of each split, ascending.

    `validation_rows` are those that the data set itself names for validation: of most sets none.
    `images` are uint8 (n, channels, size, size), or of different sizes, read from files.
    """

    images: Stored
    labels: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    class_names: tuple[str, ...]


def load_arrays(config: DataConfig) -> LabelledArrays:
    """Loads the data set named by `config`; that of files is decoded here where it is not yet.

    ValueError if files are missing or corrupt, or their classes are not as many as when the
    config was checked, or their split is not the one that `config` states. OSError if there is
    no room for the decoded images.
    """
    if config.name in SOURCES:
        drawn, manifest = SOURCES[config.name](config)
        _check_split(config, manifest)
        return _labelled(drawn, manifest)
    index = index_of(config)
    # What a process knows of folder:NAME it reads once; files may change while it runs.
    if len(index.class_names) != config.info.classes:
        raise ValueError(
            f"data.name {config.name} must have the {config.info.classes} classes that it had "
            f"when its config was checked, but its files have {len(index.class_names)} now."
        )
    manifest = manifest_of(index)
    # Before anything is decoded.
    _check_split(config, manifest)
    side = stored_side(index, config.image_size)
    images = DecodedImages(index, side) if config.cache == "off" else cached_images(index, side)
    return _labelled(images, manifest)


def _check_split(config: DataConfig, manifest: Manifest) -> None:
    """Refuses another split than the one that `config` states, where it states one."""
    stated = config.split_sha256
    if stated is not None and manifest.sha256 != stated:
        raise ValueError(
            f"{config.name} must have the split {stated} that was recorded when the study "
            f"started (sha256 of its manifest), but on this machine it has {manifest.sha256}: its "
            f"images or data.manifest changed since then, or differ from those of the machine "
            f"that drives the study. Make them the same on all machines (study/run.py --prepare "
            f"says the hash on each) and start the study again."
        )


def _labelled(images: Stored, manifest: Manifest) -> LabelledArrays:
    entries = manifest.entries
    train, validation, test = (rows_of(entries, split) for split in SPLITS)
    labels = labels_of(entries)
    return LabelledArrays(images, labels, train, validation, test, manifest.class_names)


def _icons(config: DataConfig) -> tuple[NDArray[np.uint8], Manifest]:
    icons = load_icons(config.image_size)
    return icons.images[:, None], icons_manifest(icons, config.split)


def _gaussian(config: DataConfig) -> tuple[NDArray[np.uint8], Manifest]:
    """Classes are random images, their members the class image plus noise."""
    rng = np.random.default_rng(0)
    info = catalog.dataset("gaussian")
    shape = (info.channels, config.image_size, config.image_size)
    centres = rng.normal(128.0, 40.0, (info.classes, *shape))

    manifest = gaussian_manifest()
    labels = labels_of(manifest.entries)
    noise = rng.normal(0.0, 25.0, (len(labels), *shape))
    return np.clip(centres[labels] + noise, 0, 255).astype(np.uint8), manifest


Embedded: TypeAlias = Callable[[DataConfig], tuple[NDArray[np.uint8], Manifest]]
SOURCES: Mapping[str, Embedded] = MappingProxyType({"icons": _icons, "gaussian": _gaussian})
