"""What is done once before a study on files: check them, pin their split, decode them."""

from dataclasses import dataclass
from pathlib import Path

from trainables import catalog
from trainables.config_groups import DataConfig, validation_images
from trainables.data.file_sets import MissingFilesError, index_of
from trainables.data.index import ImageIndex
from trainables.data.manifest import Manifest

__all__ = [
    "MissingFilesError",
    "Prepared",
    "checked_index",
    "has_files",
    "manifest_of",
    "prepare",
]


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready: images by split, and where its split is pinned."""

    name: str
    classes: int
    train: int
    test: int
    manifest: Path
    sha256: str

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.classes} classes, {self.train} training and {self.test} test "
            f"images; split {self.sha256[:12]} in {self.manifest}"
        )


def has_files(config: DataConfig) -> bool:
    """Whether the data set is one of files: others need no preparation."""
    known = catalog.DATASETS.get(config.name)
    return known is None or known.files is not None


def checked_index(config: DataConfig) -> ImageIndex:
    """The index of a file-based data set whose every class can be trained, tuned and tested on.

    Raises:
        ValueError: if files are missing or wrong, or a class has too few training images for
            the validation share.
    """
    index = index_of(config)
    counts = index.counts("train")
    if config.train_per_class is not None:
        counts = counts.clip(max=config.train_per_class)
    label = int(counts.argmin())
    fewest = int(counts[label])
    held_out = validation_images(fewest, config.validation_share)
    if fewest - held_out < 1:
        raise ValueError(
            f"data.validation_share {config.validation_share} leaves no training image: class "
            f"{index.class_names[label]!r} of {config.name} has {fewest}, and {held_out} would "
            f"be held out."
        )
    return index


def manifest_of(index: ImageIndex) -> Manifest:
    """The manifest that pins the splits of an index."""
    return Manifest(index.name, index.class_names, index.entries)


def prepare(config: DataConfig) -> Prepared:
    """Checks a file-based data set, writes its manifest and decodes it below the cache's folder.

    A cache that is there already is read back and built again where it is damaged.

    Raises:
        ValueError: if files are missing or wrong.
        OSError: if nothing can be written.
    """
    # Only here: it brings the image library, and a study is checked without one.
    from trainables.data.cache import cache_root, prepare_cache
    from trainables.data.decoding import stored_side

    index = checked_index(config)
    manifest = manifest_of(index)
    name = "".join(letter if letter.isalnum() else "_" for letter in index.name)
    path = cache_root() / "manifests" / f"{name}-{manifest.sha256[:12]}.tsv"
    manifest.write(path)
    if config.cache == "auto":
        prepare_cache(index, stored_side(index, config.image_size))
    return Prepared(
        index.name,
        len(index.class_names),
        len(index.rows("train")),
        len(index.rows("test")),
        path,
        manifest.sha256,
    )
