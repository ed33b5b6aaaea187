"""What may be searched, as data: one SPACE of Optuna distributions a method."""

import importlib
from pathlib import Path
from typing import TypeAlias

from optuna.distributions import BaseDistribution

Space: TypeAlias = dict[str, BaseDistribution]


def names() -> tuple[str, ...]:
    """Names of all methods that have a search space, sorted."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py")))


def space(name: str) -> Space:
    """Returns a copy of the search space of the method `name`: flat key → distribution.

    Raises:
        ValueError: if there is no file search_spaces/<name>.py.
    """
    if name not in names():
        raise ValueError(
            f"a method must have a search space, but {name!r} has none: "
            f"write search_spaces/{name}.py or give every range in the study file."
        )
    ranges: Space = importlib.import_module(f"search_spaces.{name}").SPACE
    return dict(ranges)
