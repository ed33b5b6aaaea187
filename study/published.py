"""What was published: seeds of a protocol (`seeds: published`), results for data and tasks."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from study import rules
from study.published_results import RESULTS, PublishedResult
from trainables.config import DataConfig, published_seeds, published_settings

# Cut data are other data.
CUTS = ("data.classes", "data.train_per_class", "data.test_per_class", "data.first_classes")
# Pixels, in all published results.
IMAGE_SIZE = 224
# What a recipe depends on.
KEYS = ("method.name", "preset", "recipe", "data.name", "data.tasks")


def seeds(grid: Mapping[str, Sequence[Any]], fixed: Any) -> tuple[int, ...]:
    """The published seeds, which must be the same for every cell.

    Raises:
        ValueError: if a cell selects no recipe, or cells select different ones.
    """
    axes = {key: grid[key] for key in KEYS if key in grid}
    given = {key: one for key, one in rules.mapping("fixed", fixed).items() if key in KEYS}
    found = {
        published_seeds({**given, **dict(zip(axes, values, strict=True))}): values
        for values in itertools.product(*axes.values())
    }
    if len(found) > 1:
        raise ValueError(
            f"seeds must be a list of numbers where cells were published with different ones, "
            f"but published are {sorted(found)}."
        )
    return next(iter(found))


def results(params: Mapping[str, Any]) -> tuple[PublishedResult, ...]:
    """What was published for the method, data set and number of tasks of flat `params`.

    Where the data are cut (`data.classes`, `data.train_per_class` and such) there is nothing: that
    is another measurement.
    """
    return tuple(one for one in context(params) if one.method == params.get("method.name"))


def context(params: Mapping[str, Any]) -> tuple[PublishedResult, ...]:
    """What was published for data and tasks of flat `params`, by whatever method."""
    if any(params.get(key) is not None for key in CUTS):
        return ()
    where = (params.get("data.name"), params.get("data.tasks", DataConfig.tasks))
    return tuple(one for one in RESULTS if (one.data, one.tasks) == where)


def departures(result: PublishedResult, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a trial's flat `params` leave the protocol of `result`, as far as that is known.

    Each is like "optim.epochs is 5, published with 20". Where the source does not state how the
    method was trained, only data and backbone are compared. Seeds are not looked at.
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
    return tuple(
        f"{key} is {_plain(params[key])}, published with {_plain(value)}"
        for key, value in sorted(settings.items())
        if key in params and _plain(params[key]) != _plain(value)
    )


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
