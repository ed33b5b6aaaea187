"""Rules about the keys of `data.…` that say what is read, and about the sizes of tasks."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainables import catalog

if TYPE_CHECKING:
    from trainables.config_groups import DataConfig


def check_read(config: "DataConfig") -> None:
    """Refuses what depends on the working directory or that nothing would read.

    Raises:
        ValueError: naming the key, its value and what it must be.
    """
    for key in ("root", "manifest"):
        value = getattr(config, key)
        if value is not None and not Path(value).is_absolute():
            raise ValueError(f"data.{key} must be an absolute path or null, but got {value!r}.")
    known = catalog.DATASETS.get(config.name)
    if known is not None and known.files is None:
        unread = ("manifest", "grey", "invert", "cache", "root")
        _refuse(config, unread, "which has no files")
    elif known is not None and known.files is not None and not known.files.places:
        _refuse(config, ("root",), "which comes with a package")
    if config.manifest is not None:
        _refuse(config, ("split",), "whose split data.manifest decides")
    stated = config.split_sha256
    if stated is not None and not re.fullmatch("[0-9a-f]{64}", stated):
        raise ValueError(
            f"data.split_sha256 must be 64 hexadecimal digits or null, but got {stated!r}."
        )


def check_first(first: int | None, tasks: int, classes: int) -> None:
    """Refuses a first task of `first` classes that leaves another one empty.

    Raises:
        ValueError: naming the numbers that are allowed.
    """
    if first is None:
        return
    least = classes if tasks == 1 else 1
    most = classes - (tasks - 1)
    if not least <= first <= most:
        raise ValueError(
            f"data.first_classes must be in [{least}, {most}] or null, so that each of {tasks} "
            f"tasks brings one of {classes} classes, but got {first}."
        )


def _refuse(config: "DataConfig", keys: Sequence[str], reason: str) -> None:
    """Refuses another value than the default of keys that mean nothing for this data set."""
    for key in keys:
        value, default = getattr(config, key), getattr(type(config), key)
        if value != default:
            others = " (LRCS_DATA_ROOT may be set: sets without it pass it by)"
            # As a study file has them.
            raise ValueError(
                f"data.{key} must be {json.dumps(default)} for {config.name}, {reason}, "
                f"but got {json.dumps(value)}{others if key == 'root' else ''}."
            )
