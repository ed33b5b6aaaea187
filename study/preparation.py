"""The data of a study before it starts: checked, pinned by hash, prepared on demand."""

import os
from collections.abc import Iterator

from study import ranges
from study.planning import Plan
from trainables.config import DataConfig
from trainables.data.prepare import (
    MissingFilesError,
    checked_index,
    has_files,
    manifest_of,
    prepare,
)


def data_hashes(plan: Plan) -> dict[str, str]:
    """The sha256 of the split manifest of each file-based data set of a plan, by what is read.

    Where trials run on other machines (RAY_ADDRESS), this one may be without the files: sets
    that are missing here are left out.

    Raises:
        ValueError: if files are missing or wrong.
    """
    hashes = {}
    for config in data_configs(plan):
        given = {key: getattr(config, key) for key in ("split", "manifest", "root")}
        # Without signs that a tag of MLflow may not have.
        read = [f"{key} {value}" for key, value in given.items() if value is not None]
        try:
            hashes[" ".join([config.name, *read])] = manifest_of(checked_index(config)).sha256
        except MissingFilesError:
            if os.environ.get("RAY_ADDRESS", "local") == "local":
                raise
    return hashes


def prepare_all(plan: Plan) -> Iterator[str]:
    """Prepares every file-based data set of a plan on this machine; a line on each.

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


def data_configs(plan: Plan) -> list[DataConfig]:
    """One config for each way in which the cells read files and cut validation images."""
    found: dict[tuple[object, ...], DataConfig] = {}
    for cell in plan.cells:
        searched = {key: ranges.ends(one)[0] for key, one in cell.space.items()}
        config = cell.config("search", searched, plan.spec.seeds[0]).data
        if has_files(config):
            read = (config.name, config.root, config.split, config.manifest)
            shown = (config.image_size, config.grey, config.invert, config.cache)
            kept = (config.train_per_class, config.validation_share)
            found.setdefault((*read, *shown, *kept), config)
    return list(found.values())
