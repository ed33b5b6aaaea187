"""What was published: seeds of a protocol (`seeds: published`), results for data and tasks."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.config import DataConfig, published_seeds, published_settings


@dataclass(frozen=True)
class PublishedResult:
    """One published row: accuracies are shares in [0, 1], means over the published seeds.

    `label` is the method as the source calls it, `method` its name here (None: this project has
    none). `final` is A_T on test images ("Acc"), `anytime` the mean of A_1 … A_T ("AAA"), each
    with the standard deviation over seeds where the source gives one. `family` is whose protocol
    (data, seeds) it was measured with, `backbone` the timm model; `training_stated` is false where
    the source does not say with which settings it trained the method, or with others than the
    recipe here. `remark` names what differs from any trial here, whatever its settings.
    """

    data: str
    tasks: int
    label: str
    method: str | None
    final: float
    anytime: float | None
    source: str
    family: str
    backbone: str
    final_std: float | None = None
    anytime_std: float | None = None
    training_stated: bool = True
    remark: str | None = None


def _result(row: Mapping[str, str]) -> PublishedResult:
    numbers = {name: row[name] for name in ("anytime", "final_std", "anytime_std")}
    return PublishedResult(
        data=row["data"],
        tasks=int(row["tasks"]),
        label=row["label"],
        method=row["method"] or None,
        final=float(row["final"]),
        source=row["source"],
        family=row["family"],
        backbone=row["backbone"],
        training_stated=row["training_stated"] == "yes",
        remark=row["remark"] or None,
        **{name: float(number) if number else None for name, number in numbers.items()},
    )


with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as _table:
    RESULTS = tuple(map(_result, csv.DictReader(_table)))

# Cut data are other data.
CUTS = ("data.classes", "data.train_per_class", "data.test_per_class", "data.first_classes")
# Pixels, in all published results.
IMAGE_SIZE = 224
# What a recipe depends on.
KEYS = ("method.name", "preset", "recipe", "data.name", "data.tasks")


def seeds(grid: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]) -> tuple[int, ...]:
    """The published seeds, which must be the same for every cell.

    Raises:
        ValueError: if a cell selects no recipe, or cells select different ones.
    """
    axes = {key: grid[key] for key in KEYS if key in grid}
    shared = {key: value for key, value in fixed.items() if key in KEYS}
    protocols = {
        published_seeds({**shared, **dict(zip(axes, values, strict=True))})
        for values in itertools.product(*axes.values())
    }
    if len(protocols) > 1:
        raise ValueError(
            f"seeds must be a list of numbers where cells were published with different ones, "
            f"but published are {sorted(protocols)}."
        )
    return protocols.pop()


def results(params: Mapping[str, Any]) -> tuple[PublishedResult, ...]:
    """What was published for the method, data set and number of tasks of flat `params`.

    Where the data are cut (`data.classes`, `data.train_per_class` and such) there is nothing: that
    is another measurement.
    """
    if any(params.get(key) is not None for key in CUTS):
        return ()
    data, tasks = params.get("data.name"), params.get("data.tasks", DataConfig.tasks)
    asked = (data, tasks, params.get("method.name"))
    return tuple(row for row in RESULTS if (row.data, row.tasks, row.method) == asked)


def departures(result: PublishedResult, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a trial's flat `params` leave the protocol of `result`, as far as that is known.

    Each is like "optim.epochs is 5, published with 20"; the remark on the result comes last. Where
    the source does not state how the method was trained, only data and backbone are compared. Seeds
    are not looked at.
    """
    asked = {
        "method.name": result.method if result.training_stated else result.family,
        "preset": "released",
        "data.name": result.data,
        "data.tasks": result.tasks,
    }
    settings = {
        key: value
        for key, value in published_settings(asked).items()
        if key.startswith("data.") or (result.training_stated and key not in asked)
    }
    settings |= {"backbone.name": result.backbone, "data.image_size": IMAGE_SIZE}
    differing = tuple(
        f"{key} is {_plain(params[key])}, published with {_plain(value)}"
        for key, value in sorted(settings.items())
        if key in params and _plain(params[key]) != _plain(value)
    )
    return differing if result.remark is None else (*differing, result.remark)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
