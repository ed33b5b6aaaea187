"""Data sets of files: from a name and a root to an ImageIndex with its splits decided."""

import functools
import hashlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trainables.data_sets import known
from trainables.data_sets.index import Entry, ImageIndex, Split, check_entries, fingerprint
from trainables.data_sets.known import PUBLISHED, RULES, STRATIFIED, DatasetInfo, FileSet
from trainables.data_sets.loaders.image_files import check_utf8
from trainables.data_sets.loaders.listing import Item, Listing
from trainables.data_sets.manifest import check_fits, read_manifest

ROOT_VARIABLE = "LRCS_DATA_ROOT"
# InfLoRA's ImageNet-R: all images shuffled by the seed of the first run, 80 % to train on.
TRAIN_SHARE = 0.8
SPLIT_SEED = 0
ANY_CHANNELS = 3


class MissingFilesError(ValueError):
    """The files of a data set are not on this machine."""


def read_index(
    name: str, root: str | None, split: str | None = None, manifest: str | None = None
) -> ImageIndex:
    """Reads which images of a file-based data set are trained and tested on; opens no image.

    `root` is a folder (None: that of LRCS_DATA_ROOT, then the set's place in the system),
    `split` a rule (None: the set's first one). `manifest`, a file, decides labels and splits
    instead; it must list every image. Their order is that of the files in any case. ValueError
    naming the expected layout where files are missing, or the file that is wrong.
    """
    info, files = _facts(name)
    loader = importlib.import_module(f"trainables.data_sets.loaders.{files.loader}")
    # What a package brings lies below no root.
    place = _find(name, files, root) if files.places else Path(str(loader.__file__))
    listing: Listing = loader.read(
        place, info.channels if info else ANY_CHANNELS, info.classes if info else None
    )
    items, class_names = listing.items, listing.class_names
    if manifest is not None:
        items, class_names = _as_pinned(Path(manifest), name, items)
    else:
        rule = split or (info.splits[0] if info else _own_rule(items))
        items = _split(name, place, items, rule)
    if info is not None and len(class_names) != info.classes:
        raise ValueError(
            f"{name} must have {info.classes} classes, but {place} has {len(class_names)}."
        )
    entries = tuple(Entry(item.path, item.label, cast(Split, item.split)) for item in items)
    check_entries(f"{name} ({place})", entries, class_names)
    contents = (item.content for item in items)
    marked = fingerprint(place, zip(entries, contents, strict=True), class_names)
    return ImageIndex(
        name, place, entries, class_names, listing.channels, listing.decode, marked, listing.notes
    )


def describe(name: str, root: str | None, split: str | None, manifest: str | None) -> DatasetInfo:
    """What the index of own images says of them, read once; ValueError as `read_index`."""
    return _described(name, root or os.environ.get(ROOT_VARIABLE), split, manifest)


@functools.lru_cache(maxsize=16)
def _described(name: str, root: str | None, split: str | None, manifest: str | None) -> DatasetInfo:
    index = read_index(name, root, split, manifest)
    fewest = int(index.counts("train").min())
    named = len(index.rows("validation")) > 0
    sizes = len(index.class_names), None, index.channels, fewest
    return DatasetInfo(*sizes, RULES, _facts(name)[1], named)


def altered(index: ImageIndex, grey: bool, invert: bool) -> ImageIndex:
    """The index with images decoded as grey ones (luminance) or inverted (255 − value)."""
    grey = grey and index.channels != 1
    if not grey and not invert:
        return index
    marked = hashlib.sha256(f"{index.fingerprint} {grey=} {invert=}".encode()).hexdigest()
    return replace(
        index,
        channels=1 if grey else index.channels,
        decode=_Altered(index.decode, grey, invert),
        fingerprint=marked,
    )


@dataclass(frozen=True)
class _Altered:
    """Decodes with another function, then changes the values."""

    decode: Callable[[Entry], NDArray[np.uint8]]
    grey: bool
    invert: bool

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        pixels = self.decode(entry)
        if self.grey:
            # ITU-R 601, as Pillow's mode L.
            weights = np.array([0.299, 0.587, 0.114])
            pixels = np.rint(pixels @ weights).astype(np.uint8)[..., None]
        return 255 - pixels if self.invert else pixels


def _facts(name: str) -> tuple[DatasetInfo | None, FileSet]:
    """What is known of a set beforehand: nothing but its kind for folder:NAME and npz:NAME."""
    generic = known.generic_name(name)
    if generic is not None:
        return None, known.GENERIC[generic[0]]
    info = known.DATASETS.get(name)
    if info is None or info.files is None:
        raise ValueError(f"data.name must be a data set of files, but got {name!r}.")
    return info, info.files


def _find(name: str, files: FileSet, root: str | None) -> Path:
    """The folder or file of a set; ValueError with the expected layout where there is none."""
    generic = known.generic_name(name)
    below = "" if generic is None else generic[1]
    asked = root or os.environ.get(ROOT_VARIABLE)
    if asked and not Path(asked).is_absolute():
        raise ValueError(f"${ROOT_VARIABLE} must be an absolute path, but got {asked!r}.")
    tried = [Path(asked) / place.format(name=below) for place in files.places] if asked else []
    if files.system is not None and root is None:
        tried.append(Path(files.system))
    for path in tried:
        check_utf8(path)
        if path.exists():
            return path
    where = ", ".join(map(str, tried)) or "nowhere, since neither is set"
    raise MissingFilesError(
        f"the files of {name} must lie below data.root or ${ROOT_VARIABLE}, but they are not "
        f"there (looked for {where}). Expected:\n  {files.layout.format(name=below)}\n"
        f"Get it from: {files.origin}. Nothing is downloaded."
    )


def _own_rule(items: tuple[Item, ...]) -> str:
    """Of a set that nothing is known of: what its files say, or else 80 % of each class."""
    return STRATIFIED if all(item.split is None for item in items) else PUBLISHED


def _as_pinned(
    path: Path, name: str, items: tuple[Item, ...]
) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """The items in the order of the files, with the labels and splits of a manifest."""
    pinned = read_manifest(path)
    check_fits(pinned, path, name, [item.path for item in items])
    by_path = {entry.path: entry for entry in pinned.entries}
    # Not in the order of the manifest's lines, so that these say nothing of the stream.
    chosen = (
        replace(item, label=by_path[item.path].label, split=by_path[item.path].split)
        for item in items
    )
    return tuple(chosen), pinned.class_names


def _split(name: str, place: Path, items: tuple[Item, ...], rule: str) -> tuple[Item, ...]:
    """The items with a split each, by rule."""
    if rule == PUBLISHED:
        without = [item.path for item in items if item.split is None]
        if without:
            raise ValueError(
                f"data.split must be {' or '.join(RULES[1:])} where the files of {name} have no "
                f"split of their own (in {place}), or data.manifest must decide it; "
                f"but got {rule!r}."
            )
        return items
    groups = [list(range(len(items)))]
    if rule == STRATIFIED:
        by_label: dict[int, list[int]] = {}
        for position, item in enumerate(items):
            by_label.setdefault(item.label, []).append(position)
        groups = [by_label[label] for label in sorted(by_label)]
    rng = np.random.default_rng(SPLIT_SEED)
    splits: dict[int, Split] = {}
    for group in groups:
        order = rng.permutation(group)
        # At least one image of a class is tested on, where the rule sees classes.
        count = min(int(TRAIN_SHARE * len(order)), len(order) - 1)
        splits |= {int(at): "train" for at in order[:count]}
        splits |= {int(at): "test" for at in order[count:]}
    return tuple(replace(item, split=splits[at]) for at, item in enumerate(items))
