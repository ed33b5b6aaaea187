"""What is done once before a study: check the files, pin the split, decode the images."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.config import DataConfig, catalog, check_share_unread, validation_images
from trainables.data.embedded import embedded_images, embedded_manifest
from trainables.data_sets.file_sets import MissingFilesError as MissingFilesError
from trainables.data_sets.file_sets import altered, read_index
from trainables.data_sets.index import SPLITS, ImageIndex, rows_of
from trainables.data_sets.manifest import Manifest


@dataclass(frozen=True)
class Prepared:
    """A data set, or a rendition of one, that is ready: images by split, its manifest, warnings.

    `validation` images are those that it names itself, not among the `train` ones.
    """

    name: str
    classes: int
    train: int
    test: int
    manifest: Path
    sha256: str
    warnings: tuple[str, ...] = ()
    validation: int = 0

    def __str__(self) -> str:
        named = f", {self.validation} validation" if self.validation else ""
        return (
            f"{self.name}: {self.classes} classes, {self.train} training{named} and {self.test} "
            f"test images; split {self.sha256[:12]} in {self.manifest}"
        )


@dataclass(frozen=True)
class Looked:
    """What is known of a data set before a study: its split, and what to be warned of.

    `decoded`: whether images that occur twice were looked for, which takes a decoded cache.
    """

    manifest: Manifest
    warnings: tuple[str, ...] = ()
    decoded: bool = True


def has_files(config: DataConfig) -> bool:
    """Whether the data set is one of files: others have nothing to check or to decode."""
    known = catalog.DATASETS.get(config.name)
    return known is None or known.files is not None


def index_of(config: DataConfig) -> ImageIndex:
    """The images of a data set of files as `config` says; ValueError where one is wrong."""
    index = read_index(config.name, config.root, config.split, config.manifest)
    index = altered(index, config.grey, config.invert)
    return replace(index, bicubic=config.test_view == "bicubic")


def checked_index(config: DataConfig) -> ImageIndex:
    """The index of a file-based data set whose every class can be trained, tuned and tested on.

    ValueError if files are missing or wrong, a class has too few training images for the
    validation share, or one is set that nothing would read.
    """
    index = index_of(config)
    if len(index.rows("validation")):
        check_share_unread(config)
        return index
    counts = index.counts("train")
    if config.train_per_class is not None:
        counts = counts.clip(max=config.train_per_class)
    label = int(counts.argmin())
    whose = f"class {index.class_names[label]!r} of {config.name}"
    validation_images(int(counts[label]), config.validation_share, whose)
    return index


def manifest_of(index: ImageIndex) -> Manifest:
    """The manifest that pins the splits of an index."""
    return Manifest(index.name, index.class_names, index.entries)


def split_of(config: DataConfig) -> Manifest:
    """The manifest of all classes and images of a data set; ValueError as `checked_index`."""
    if has_files(config):
        return manifest_of(checked_index(config))
    return embedded_manifest(config)


def look_at(config: DataConfig) -> Looked:
    """The manifest of a data set, and all warnings that need no image to be decoded now.

    ValueError as `checked_index`.
    """
    if not has_files(config):
        return Looked(embedded_manifest(config))
    index = checked_index(config)
    same = None
    if config.cache == "auto":
        # Only here: it brings the image library.
        from trainables.data.cache.cache import known_images
        from trainables.data.cache.decoding import stored_side
        from trainables.data.cache.same_images import same_images

        # Trials say it where the cache cannot be used.
        with suppress(ValueError, OSError, RuntimeError):
            images = known_images(index, stored_side(index, config.image_size))
            same = None if images is None else same_images(index, images)
    return Looked(manifest_of(index), (*_notes(index), *(same or ())), same is not None)


def _notes(index: ImageIndex) -> tuple[str, ...]:
    return tuple(f"{index.name}: {note}" for note in index.notes)


def prepare(config: DataConfig) -> Prepared:
    """Checks a data set and writes its manifest; decodes or renders below the cache's folder.

    Its warnings tell of files that are passed over and of images that occur twice. A cache that is
    there already is read back, as are the files; it is built again where it is
    damaged or a file has another content. ValueError if files are missing or wrong. OSError if
    nothing can be written.
    """
    # Only here: it brings the image library, and a study is checked without one.
    from trainables.data.cache.cache import cache_root, prepare_cache
    from trainables.data.cache.decoding import stored_side
    from trainables.data.cache.folders import file_name
    from trainables.data.cache.same_images import same_images
    from trainables.data.rendered import kept_renditions

    index = checked_index(config) if has_files(config) else None
    drawn, manifest = (None, manifest_of(index)) if index else embedded_images(config)
    path = cache_root() / "manifests"
    path /= f"{file_name(manifest.name)}-{manifest.sha256[:12]}.tsv"
    manifest.write(path)
    warnings: tuple[str, ...] = ()
    if index is not None:
        warnings = _notes(index)
        if config.cache == "auto":
            images = prepare_cache(index, stored_side(index, config.image_size))
            warnings += same_images(index, images)
        else:
            unknown = "images that occur twice are not looked for where data.cache is off"
            warnings += (f"{index.name}: {unknown}.",)
    name = manifest.name
    if drawn is not None and manifest.rendition is not None:
        kept_renditions(config, drawn, manifest)
        name += f", {config.rendition} {config.rendition_strength}"
    train, validation, test = (len(rows_of(manifest.entries, split)) for split in SPLITS)
    sizes = len(manifest.class_names), train, test
    return Prepared(name, *sizes, path, manifest.sha256, warnings, validation)


def cache_folder() -> Path:
    """Where this machine keeps decoded images."""
    # Only here, as above.
    from trainables.data.cache.cache import cache_root

    return cache_root()


def remove_unused_caches() -> list[str]:
    """Removes the caches on this machine that no process opened for 30 days; a line on each."""
    # Only here, as above.
    from trainables.data.cache.cache import cache_root
    from trainables.data.cache.folders import remove_unused

    return remove_unused(cache_root())
