"""`seeds: published`: the seeds of the published protocol that a study's cells select."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from study import rules
from trainables.config import published_seeds

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
