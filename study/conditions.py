"""Searched keys that are settings only where other searched keys have certain values."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution

from study import ranges

# Key → the keys it depends on, each with the values where it is a setting.
Conditions: TypeAlias = Mapping[str, Mapping[str, tuple[Any, ...]]]
# Of the combinations of the ends of all ranges that are checked; a cell takes milliseconds then.
CORNERS = 256


def resolve(
    search: str | Mapping[str, Any], method: str, space: Mapping[str, BaseDistribution]
) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Returns the conditions (`when`) of the keys that are searched for `method`.

    Args:
        search: the section of the study file.
        method: a method of the study.
        space: what is searched for it, as `ranges.resolve` returns it.

    Raises:
        ValueError: if `when` does not map searched keys with choices, given before the key that
            depends on them, to some of these choices.
    """
    chosen = {} if isinstance(search, str) else ranges.of_method(search, method)
    if not isinstance(chosen, Mapping):
        return {}
    found: dict[str, dict[str, tuple[Any, ...]]] = {}
    before: list[str] = []
    for key, given in chosen.items():
        if isinstance(given, Mapping) and ranges.WHEN in given:
            where = f"search {method} {key} when"
            found[key] = _condition(where, given[ranges.WHEN], space, before)
        before.append(key)
    return found


def holding(settings: Mapping[str, Any], conditions: Conditions) -> dict[str, Any]:
    """The settings without those whose condition does not hold; parents come before children."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if holds(key, found, conditions):
            found[key] = value
    return found


def holds(key: str, settings: Mapping[str, Any], conditions: Conditions) -> bool:
    """Whether `key` is a setting beside `settings`, which hold every key it depends on."""
    return all(
        parent in settings and _among(settings[parent], values)
        for parent, values in conditions.get(key, {}).items()
    )


def misfit(
    settings: Mapping[str, Any],
    space: Mapping[str, BaseDistribution],
    conditions: Conditions,
) -> str | None:
    """Why `settings` are not a point of the space; None where they are."""
    for key in settings:
        if key not in space:
            return f"{key} must be one of the searched keys {sorted(space)}"
    for key, distribution in space.items():
        if not holds(key, settings, conditions):
            if key in settings:
                return f"{key} must be set where its condition holds only"
        elif key not in settings:
            return f"{key} must be given"
        elif not ranges.holds(distribution, settings[key]):
            return f"{key} must be {ranges.text(distribution)}, but is {settings[key]!r}"
    return None


def corners(
    space: Mapping[str, BaseDistribution], conditions: Conditions
) -> Iterator[dict[str, Any]]:
    """Settings at the border of the space, every end of every range at least once.

    Each conditional key is at each end in each of the cases where it is a setting.
    """
    ends = {key: ranges.ends(one) for key, one in space.items()}
    for one in _combinations(ends):
        yield holding(one, conditions)
    low = {key: values[0] for key, values in ends.items()}
    for key in conditions:
        for parent, values in conditions[key].items():
            for value in values:
                chosen = _enabled(key, {**low, parent: value}, conditions, {parent})
                for end in ends[key]:
                    yield holding({**chosen, key: end}, conditions)


def _combinations(ends: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Every end of every range at least once, then `CORNERS` of their combinations at most."""
    for at in range(max((len(one) for one in ends.values()), default=1)):
        yield {key: values[at % len(values)] for key, values in ends.items()}
    for values in itertools.islice(itertools.product(*ends.values()), CORNERS):
        yield dict(zip(ends, values, strict=True))


def _enabled(
    key: str, settings: dict[str, Any], conditions: Conditions, kept: set[str]
) -> dict[str, Any]:
    """The settings with the parents of `key` (and theirs) such that it is one of them."""
    for parent, values in conditions.get(key, {}).items():
        if parent not in kept:
            settings = {**settings, parent: values[0]}
        settings = _enabled(parent, settings, conditions, kept)
    return settings


def _condition(
    where: str, given: Any, space: Mapping[str, BaseDistribution], before: list[str]
) -> dict[str, tuple[Any, ...]]:
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            f"{where} must map a searched key to its value or values, say "
            f"{{method.energy: sigma2}}, but got {given!r}."
        )
    found = {}
    for parent, asked in given.items():
        distribution = space.get(parent)
        if distribution is None:
            raise ValueError(
                f"{where} must name keys that are searched as well, {sorted(space)}, "
                f"but got {parent!r}."
            )
        if parent not in before:
            raise ValueError(
                f"{where} must name keys that are given before it, {before}, but got {parent!r}."
            )
        if not isinstance(distribution, CategoricalDistribution):
            raise ValueError(
                f"{where} must name keys with choices, but {parent!r} is "
                f"{ranges.text(distribution)}."
            )
        values = tuple(asked) if isinstance(asked, list | tuple) else (asked,)
        wrong = [one for one in values if not ranges.holds(distribution, one)]
        if wrong or not values:
            raise ValueError(
                f"{where} {parent} must be among its choices {list(distribution.choices)}, "
                f"but got {wrong[0] if wrong else asked!r}."
            )
        found[parent] = values
    return found


def _among(value: Any, values: tuple[Any, ...]) -> bool:
    return any(type(one) is type(value) and one == value for one in values)
