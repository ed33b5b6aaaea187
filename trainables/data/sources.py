"""The images of a data set with their labels and split, drawn, rendered or decoded."""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainables.config import DataConfig
from trainables.data.cache.cache import PackedImages, cache_root, cached_images
from trainables.data.cache.decoding import DecodedImages, stored_side
from trainables.data.embedded import embedded_images
from trainables.data.prepare import has_files, index_of, manifest_of
from trainables.data.rendered import rendered_images
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
    """Loads the data set named by `config`, decoded or rendered here where it is not yet.

    ValueError if files are missing or corrupt, or their classes are not as many as when the
    config was checked, or their split is not the one that `config` states. OSError if there is
    no room for the decoded images.
    """
    if not has_files(config):
        kept = _kept_of(config)
        if _checksum(kept.drawn) != kept.checksum:
            # The mapped file has changed since: it is looked at again.
            _without_files.cache_clear()
            kept = _kept_of(config)
        _check_split(config, kept.manifest)
        return kept.arrays
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


@dataclass(frozen=True)
class _Kept:
    """The arrays of a data set without files, read-only, for the trials of this process."""

    drawn: NDArray[np.uint8]
    arrays: LabelledArrays
    manifest: Manifest
    checksum: int


def _kept_of(config: DataConfig) -> _Kept:
    return _without_files(
        str(cache_root()),
        name=config.name,
        image_size=config.image_size,
        split=config.split,
        rendition=config.rendition,
        rendition_strength=config.rendition_strength,
    )


@lru_cache(maxsize=1)
def _without_files(_root: str, **fields: Any) -> _Kept:
    """By the fields of a config that tell what is drawn, and where renditions are kept."""
    config = DataConfig(tasks=1, **fields)
    drawn, manifest = embedded_images(config)
    if config.rendition != "none":
        drawn = rendered_images(config, drawn, manifest)
    arrays = _labelled(drawn[:, None], manifest)
    parts = (drawn, arrays.labels, arrays.train_rows, arrays.validation_rows, arrays.test_rows)
    for part in parts:
        part.flags.writeable = False
    return _Kept(drawn, arrays, manifest, _checksum(drawn))


def _checksum(images: NDArray[np.uint8]) -> int:
    return zlib.crc32(np.ascontiguousarray(images).data)


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
