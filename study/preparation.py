"""The data of a study before it starts: checked, pinned by hash, prepared on demand."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from study.cluster_address import LOCAL, cluster_address
from study.planning import Cell, Plan
from trainables.config import DataConfig
from trainables.data.prepare import (
    Manifest,
    MissingFilesError,
    has_files,
    prepare,
    remove_unused_caches,
    split_of,
)


@dataclass(frozen=True)
class Split:
    """The split of a data set: hash of its manifest, number of classes and of images."""

    sha256: str
    classes: int
    train: int
    test: int


def data_hashes(plan: Plan) -> dict[str, str]:
    """The sha256 of the split manifest of each data set of a plan; see `data_splits`."""
    return {name: one.sha256 for name, one in data_splits(plan).items()}


def sizes_by_hash(splits: Mapping[str, Split]) -> dict[str, dict[str, int]]:
    """Classes and images of splits by their hash, for the ledger."""
    return {
        one.sha256: {"classes": one.classes, "train": one.train, "test": one.test}
        for one in splits.values()
    }


def data_splits(plan: Plan) -> dict[str, Split]:
    """The split of each data set of a plan, by what is read.

    Where trials run on other machines (on a Ray cluster), this one may be without the files: sets
    that are missing here are left out.

    Raises:
        ValueError: if files are missing or wrong.
    """
    splits = {}
    for config in data_configs(plan):
        try:
            splits[_what_is_read(config)] = _split(split_of(config))
        except MissingFilesError:
            if cluster_address() == LOCAL:
                raise
    return splits


def pinned(plan: Plan, hashes: Mapping[str, str]) -> Plan:
    """The plan whose trials refuse any split but those in `hashes`, as `data_hashes` gives them.

    Trials on data that `hashes` leaves out take any split. No trial's id changes.
    """
    cells = (
        replace(cell, split_sha256=hashes.get(_what_is_read(data_of(cell)))) for cell in plan.cells
    )
    return replace(plan, cells=tuple(cells))


def prepare_all(plan: Plan) -> Iterator[str]:
    """Prepares every data set of a plan on this machine, then removes old caches.

    Gives a line on each.

    Raises:
        ValueError: if files are missing or wrong.
        OSError: if nothing can be written.
    """
    said = set()
    for config in data_configs(plan):
        line = str(prepare(config))
        if line not in said:
            said.add(line)
            yield line
    yield from remove_unused_caches()


def data_configs(plan: Plan) -> list[DataConfig]:
    """One config for each way in which the cells read images and cut validation images."""
    found: dict[tuple[object, ...], DataConfig] = {}
    for cell in plan.cells:
        config = data_of(cell)
        way: tuple[object, ...] = (config.name, config.root, config.split, config.manifest)
        # Of the others everything else was checked with the study file.
        if has_files(config):
            shown = (config.image_size, config.grey, config.invert, config.cache)
            way = (*way, *shown, config.train_per_class, config.validation_share)
        found.setdefault(way, config)
    return list(found.values())


def data_of(cell: Cell) -> DataConfig:
    """What the trials of a cell read: the same for all, since data is never searched."""
    return cell.config("search", next(cell.corners()), cell.search_seed).data


def _split(manifest: Manifest) -> Split:
    counts = Counter(one.split for one in manifest.entries)
    return Split(manifest.sha256, len(manifest.class_names), counts["train"], counts["test"])


def _what_is_read(config: DataConfig) -> str:
    """The data set and what chooses its split, without signs that a tag of MLflow may not have."""
    given = {key: getattr(config, key) for key in ("split", "manifest", "root")}
    return " ".join([config.name, *(f"{key} {one}" for key, one in given.items() if one)])
