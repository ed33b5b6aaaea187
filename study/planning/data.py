"""The data of a study before it starts: checked, pinned by hash, prepared on demand."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from study.ledger import History
from study.planning.cells import Cell, Plan
from trainables.config import DataConfig
from trainables.data.prepare import (
    Looked,
    MissingFilesError,
    has_files,
    look_at,
    prepare,
    remove_unused_caches,
)


@dataclass(frozen=True)
class Split:
    """The split of a data set: hash of its manifest, number of classes and of images.

    `validation` images are those that the data set names itself, not among the `train` ones.
    `warnings` are what a person should know of its files; without `decoded` nobody has looked
    for images that occur twice yet.
    """

    sha256: str
    classes: int
    train: int
    test: int
    warnings: tuple[str, ...] = ()
    decoded: bool = True
    validation: int = 0


def sizes_by_hash(splits: Mapping[str, Split]) -> dict[str, dict[str, int]]:
    """Classes and images of splits by their hash, for the ledger."""
    return {split.sha256: _sizes(split) for split in splits.values()}


def data_splits(plan: Plan, elsewhere: Callable[[], bool]) -> dict[str, Split]:
    """The split of each data set of a plan, by what is read.

    Where trials run on other machines, this one may be without the files: sets that are missing
    here are left out.

    Args:
        plan: what is to run.
        elsewhere: whether trials run on other machines; asked where files are missing.

    Raises:
        ValueError: if files are missing or wrong.
    """
    splits: dict[str, Split] = {}
    for config in data_configs(plan):
        try:
            name, split = _what_is_read(config), _split(look_at(config))
        except MissingFilesError:
            if not elsewhere():
                raise
            continue
        known = splits.get(name, split)
        # Several cells may read the same images in different ways, grey ones for instance.
        warnings = tuple(dict.fromkeys((*known.warnings, *split.warnings)))
        splits[name] = replace(split, warnings=warnings, decoded=known.decoded and split.decoded)
    return splits


def data_warnings(splits: Mapping[str, Split]) -> list[str]:
    """What a person should know of the files of data sets, a sentence each."""
    return list(dict.fromkeys(text for split in splits.values() for text in split.warnings))


def late_warnings(plan: Plan, splits: Mapping[str, Split]) -> list[str]:
    """What more is known once trials have decoded the images; nothing where files are gone."""
    if all(split.decoded for split in splits.values()):
        return []
    try:
        return data_warnings(data_splits(plan, lambda: True))
    except (ValueError, OSError):
        return []


def check_unchanged(history: History, hashes: Mapping[str, str]) -> None:
    """Refuses data whose splits are not those that the study was begun with.

    Raises:
        ValueError: naming the data set and both hashes.
    """
    before = {} if history.study is None else history.study.data
    for name, sha256 in hashes.items():
        if before.get(name, sha256) != sha256:
            raise ValueError(
                f"{history.source}: the split of {name} must be the one that the study was begun "
                f"with ({before[name]}), but on this machine it is {sha256}."
            )


def pinned(plan: Plan, hashes: Mapping[str, str]) -> Plan:
    """The plan whose trials refuse any split but those in `hashes`, by what is read.

    Trials on data that `hashes` leaves out take any split. No trial's id changes.
    """
    cells = (
        replace(cell, split_sha256=hashes.get(_what_is_read(data_of(cell)))) for cell in plan.cells
    )
    return replace(plan, cells=tuple(cells))


def prepare_all(plan: Plan) -> Iterator[str]:
    """Prepares every data set of a plan on this machine, then removes old caches.

    Gives a line on each, and one for each warning.

    Raises:
        ValueError: if files are missing or wrong.
        OSError: if nothing can be written.
    """
    lines = set()
    for config in data_configs(plan):
        done = prepare(config)
        for line in (str(done), *(f"warning: {text}" for text in done.warnings)):
            if line not in lines:
                lines.add(line)
                yield line
    yield from remove_unused_caches()


def data_configs(plan: Plan) -> list[DataConfig]:
    """One config for each way in which the cells read images and cut validation images."""
    configs: dict[tuple[object, ...], DataConfig] = {}
    for cell in plan.cells:
        config = data_of(cell)
        way: tuple[object, ...] = (config.name, config.root, config.split, config.manifest)
        # Of the others everything else was checked with the study file.
        if has_files(config):
            shown = (config.image_size, config.grey, config.invert, config.cache)
            way = (*way, *shown, config.train_per_class, config.validation_share)
        elif config.rendition != "none":
            way = (*way, config.image_size, config.rendition, config.rendition_strength)
        configs.setdefault(way, config)
    return list(configs.values())


def data_of(cell: Cell) -> DataConfig:
    """What the trials of a cell read: the same for all, since data is never searched."""
    return cell.config("search", next(cell.corners()), cell.search_seed).data


def _split(looked: Looked) -> Split:
    manifest = looked.manifest
    counts = Counter(entry.split for entry in manifest.entries)
    sizes = len(manifest.class_names), counts["train"], counts["test"]
    return Split(manifest.sha256, *sizes, looked.warnings, looked.decoded, counts["validation"])


def _sizes(split: Split) -> dict[str, int]:
    """Most sets name no validation images: nothing is said of them then."""
    named = {"validation": split.validation} if split.validation else {}
    return {"classes": split.classes, "train": split.train, **named, "test": split.test}


def _what_is_read(config: DataConfig) -> str:
    """The data set and what chooses its split, without signs that a tag of MLflow may not have."""
    choices = {key: getattr(config, key) for key in ("split", "manifest", "root")}
    if config.rendition != "none":
        choices |= {config.rendition: str(config.rendition_strength)}
    return " ".join([config.name, *(f"{key} {value}" for key, value in choices.items() if value)])
