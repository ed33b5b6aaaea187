"""Renditions of embedded images, drawn once a machine into a cache that its trials map."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from trainables.config import DataConfig
from trainables.data.cache.cache import prepare_cache
from trainables.data.embedded import Images, pixels_sha256, render
from trainables.data_sets.index import Entry, ImageIndex
from trainables.data_sets.manifest import Manifest

logger = logging.getLogger(__name__)


def rendered_images(config: DataConfig, images: Images, manifest: Manifest) -> Images:
    """Renditions (n, h, w) of plain images (n, h, w), as `embedded_images` gives both.

    They are read from this machine's cache, drawn there first where it has none or a damaged one.
    Where nothing can be written they are drawn in memory.
    """
    try:
        return kept_renditions(config, images, manifest)
    # The latter of a file system without locks.
    except (OSError, NotImplementedError) as error:
        logger.warning("the renditions of %s are drawn in memory: %s", config.name, error)
        return render(images, manifest, config.rendition_strength)


def kept_renditions(config: DataConfig, images: Images, manifest: Manifest) -> Images:
    """As `rendered_images`, but OSError if the cache cannot be written."""
    key = f"{manifest.rendition} {config.image_size} {pixels_sha256(images)}"
    index = ImageIndex(
        name=f"{config.name}_{config.rendition}",
        root=Path(config.name),
        entries=tuple(
            Entry(f"{entry.path}#{row}", entry.label, entry.split)
            for row, entry in enumerate(manifest.entries)
        ),
        class_names=manifest.class_names,
        channels=1,
        decode=_Renditions(images, manifest, config.rendition_strength),
        fingerprint=hashlib.sha256(key.encode()).hexdigest(),
    )
    return prepare_cache(index, config.image_size).stacked()[..., 0]


@dataclass
class _Renditions:
    """Gives the renditions one by one, all drawn when the first is asked for."""

    images: Images
    manifest: Manifest
    strength: float
    rendered: Images | None = None

    def __call__(self, entry: Entry) -> Images:
        if self.rendered is None:
            self.rendered = render(self.images, self.manifest, self.strength)
        rendition: Images = self.rendered[int(entry.path.rpartition("#")[2])]
        return rendition[..., None]
