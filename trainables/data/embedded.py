"""The data sets without files: their images and splits, by stable names.

An icon is "class/family" (one family draws a concept once), a glyph "class/face", a drawn image
"class/train_0".
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainables.config import DataConfig, catalog
from trainables.data_sets import rendition
from trainables.data_sets.glyphs.glyph_set import load_glyphs
from trainables.data_sets.icons.icon_set import IconSet, load_icons, unseen_family_split
from trainables.data_sets.index import Entry, Split, labels_of
from trainables.data_sets.manifest import Manifest

UNSEEN_FAMILY, UNSEEN_FAMILY_SHARE = "unseen_family", 0.3
GAUSSIAN_IMAGES: dict[Split, int] = {"train": 20, "test": 10}  # of each class
# Renditions of so many images are hashed to tell what all are like: a study file is checked in a
# second.
SAMPLED = 256

Images: TypeAlias = NDArray[np.uint8]
Drawn: TypeAlias = tuple[Images, Manifest]


def embedded_images(config: DataConfig) -> Drawn:
    """Plain images uint8 (n, size, size) of a data set without files, and what pins them.

    The manifest is that of `embedded_manifest`, though the images are not rendered here.
    ValueError for other data sets.
    """
    images, manifest = _drawn(config, config.image_size)
    if config.rendition == "none":
        return images, manifest
    smallest = _smallest(config)
    few = images if smallest == config.image_size else _drawn(config, smallest)[0]
    return images, _rendered(manifest, few, config)


def embedded_manifest(config: DataConfig) -> Manifest:
    """The manifest of a data set without files, at any image size; ValueError for others."""
    images, manifest = _drawn(config, _smallest(config))
    return manifest if config.rendition == "none" else _rendered(manifest, images, config)


def render(images: Images, manifest: Manifest, strength: float, every: int = 1) -> Images:
    """Street renditions of every so many of the images (n, h, w) that a manifest lists."""
    names = (f"{manifest.name}/{entry.path}" for entry in manifest.entries[::every])
    return rendition.street(images[::every], rendition.draws_of(names), strength)


def _rendered(manifest: Manifest, images: Images, config: DataConfig) -> Manifest:
    """The manifest that also pins the renditions, given the plain images of the smallest size.

    Its hash is over all plain images and the renditions of some: that finds other images, another
    version and a machine that computes otherwise.
    """
    strength = float(config.rendition_strength)
    sample = render(images, manifest, strength, max(1, len(images) // SAMPLED))
    parts = [rendition.VERSION, strength, pixels_sha256(images), pixels_sha256(sample)]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return replace(manifest, rendition=f"{config.rendition} {strength} {digest}")


def pixels_sha256(images: Images) -> str:
    """Hash of the values of images, in order."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def _smallest(config: DataConfig) -> int:
    sizes = config.info.image_sizes
    return config.image_size if sizes is None else min(sizes)


def _drawn(config: DataConfig, size: int) -> Drawn:
    if config.name not in SOURCES:
        raise ValueError(f"data.name must be a data set without files, but got {config.name!r}.")
    return SOURCES[config.name](size, config.split)


def _icons(size: int, split: str | None) -> Drawn:
    icons = load_icons(size)
    return icons.images, icons_manifest(icons, split)


def icons_manifest(icons: IconSet, split: str | None) -> Manifest:
    """The manifest of the icons, one entry an image in their order, by a rule of data.split."""
    unseen = split == UNSEEN_FAMILY
    held_out = unseen_family_split(icons, UNSEEN_FAMILY_SHARE, seed=0) if unseen else icons.is_test
    columns = (icons.labels.tolist(), icons.families.tolist(), held_out.tolist())
    entries = (
        Entry(
            f"{icons.class_names[label]}/{icons.family_names[family]}",
            label,
            "test" if tested else "train",
        )
        for label, family, tested in zip(*columns, strict=True)
    )
    return Manifest("icons", icons.class_names, tuple(entries))


def _glyphs(_: int, __: str | None) -> Drawn:
    """The glyphs, in their order; the split is that of their families."""
    glyphs = load_glyphs()
    columns = (glyphs.labels.tolist(), glyphs.faces.tolist())
    entries = (
        Entry(
            f"{glyphs.class_names[label]}/{glyphs.face_names[face]}",
            label,
            glyphs.face_splits[face],
        )
        for label, face in zip(*columns, strict=True)
    )
    return glyphs.images, Manifest("glyphs", glyphs.class_names, tuple(entries))


def _gaussian(size: int, _: str | None) -> Drawn:
    """Classes are random images, their members the class image plus noise."""
    rng = np.random.default_rng(0)
    manifest = gaussian_manifest()
    centres = rng.normal(128.0, 40.0, (len(manifest.class_names), size, size))
    labels = labels_of(manifest.entries)
    noise = rng.normal(0.0, 25.0, (len(labels), size, size))
    return np.clip(centres[labels] + noise, 0, 255).astype(np.uint8), manifest


def gaussian_manifest() -> Manifest:
    """The manifest of the drawn images: the training images class by class, then the others."""
    classes = range(catalog.dataset("gaussian").classes)
    entries = (
        Entry(f"gaussian_{label:02d}/{split}_{number}", label, split)
        for split, count in GAUSSIAN_IMAGES.items()
        for label in classes
        for number in range(count)
    )
    return Manifest("gaussian", tuple(f"gaussian_{label:02d}" for label in classes), tuple(entries))


# Images of a size with their manifest, by a rule of data.split.
SOURCES: Mapping[str, Callable[[int, str | None], Drawn]] = MappingProxyType(
    {"icons": _icons, "glyphs": _glyphs, "gaussian": _gaussian}
)
