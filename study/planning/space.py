"""The `search` section of a study file: Optuna distributions, and when a key is searched."""

import itertools
import json
import math
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

import search_spaces
from study import errors
from study.ledger import range_text
from study.planning.sections import RESERVED
from trainables.config import known_keys

Space: TypeAlias = Mapping[str, BaseDistribution]
# Key → the keys it depends on, each with the values where it is a setting.
Conditions: TypeAlias = Mapping[str, Mapping[str, tuple[Any, ...]]]
RANGE_KEYS = ("low", "high", "log", "step")
WHEN = "when"
ROUNDING = 1e-8
# Of the combinations of the ends of all ranges of a cell that are checked.
CORNERS = 256
# Settings of a study that are checked, each several times at most: seconds.
MOST_CHECKS = 16_384


def resolve(
    search: str | Mapping[str, Any], method: str, taken: Collection[str]
) -> dict[str, BaseDistribution]:
    """Returns what is searched for `method`: flat key → distribution.

    `taken` are the keys that the cell sets itself: "all" leaves them out, naming one is an error.

    Raises:
        ValueError: if keys, ranges or the search space are unknown or do not fit.
    """
    if search == "none":
        return {}
    chosen = "all" if search == "all" else of_method(search, method)
    if chosen == "all":
        return {k: v for k, v in search_spaces.space(method).items() if k not in taken}
    named = isinstance(chosen, Mapping | list | tuple) and all(isinstance(k, str) for k in chosen)
    if not named:
        raise ValueError(
            f"search {method} must be 'all', a list of keys or a mapping of keys to ranges, "
            f"but got {chosen!r}."
        )
    ranges = chosen if isinstance(chosen, Mapping) else dict.fromkeys(chosen)
    space: dict[str, BaseDistribution] = {}
    mistakes: list[str] = []
    for key, asked in ranges.items():
        with errors.noted(mistakes):
            space[key] = _of_key(method, key, _without_when(asked), taken)
    errors.refuse(mistakes)
    return space


def _of_key(method: str, key: str, asked: Any, taken: Collection[str]) -> BaseDistribution:
    """What is searched for one key; `asked` is None for the range that the method has."""
    where = f"search {method} {key}"
    known = known_keys(method)
    if key not in known:
        raise ValueError(f"{where}: {errors.unknown('key', key, known)}")
    if not searchable(key):
        raise ValueError(
            f"{where} must not be searched: trials of a cell are compared, so they share "
            f"data, backbone, evaluation, preset and recipe; put it in grid or fixed."
        )
    if key in taken:
        raise ValueError(f"{where} must not be in grid or fixed as well.")
    if asked is not None:
        return _distribution(where, asked, known[key])
    own = search_spaces.space(method)
    if key not in own:
        raise ValueError(
            f"{where} must have a range ({{low, high}} or {{choices}}), since "
            f"search_spaces/{method}.py has none for it; it has {sorted(own)}."
        )
    return own[key]


def searchable(key: str) -> bool:
    """Whether trials of a cell may differ in a flat key."""
    shared = (*RESERVED, "preset", "recipe", "method.name")
    return key not in shared and key.split(".")[0] not in ("data", "backbone", "evaluation")


def of_method(search: Any, method: str) -> Any:
    """What the section says about `method`.

    Raises:
        ValueError: if it says nothing.
    """
    if method not in search:
        raise ValueError(
            f"search must name every method of the study, but names {sorted(search)} and not "
            f"{method!r}: add '{method}: all'."
        )
    return search[method]


def ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    """The values at the border of a distribution: low and high, or all choices."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return (distribution.low, distribution.high)


def holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether `value` is one that the distribution can give: True and 1 are two choices."""
    if isinstance(distribution, CategoricalDistribution):
        return among(value, distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    whole = isinstance(distribution, IntDistribution)
    if not errors.is_number(value) or (whole and not isinstance(value, int)):
        return False
    if not distribution.low <= value <= distribution.high or not math.isfinite(value):
        return False
    if distribution.step is None or distribution.log:
        return True
    return _is_whole((value - distribution.low) / distribution.step)


def among(value: Any, values: Collection[Any]) -> bool:
    """Whether `value` is one of several: True and 1 are two."""
    return any(type(other) is type(value) and other == value for other in values)


def applies(key: str, settings: Mapping[str, Any], conditions: Conditions) -> bool:
    """Whether `key` is a setting beside `settings`, which hold every key it depends on."""
    return all(
        parent in settings and among(settings[parent], values)
        for parent, values in conditions.get(key, {}).items()
    )


def recorded(
    distribution: BaseDistribution, condition: Mapping[str, Collection[Any]]
) -> dict[str, Any]:
    """A distribution, and when it is searched, as the record of a cell has it."""
    when = {"when": {key: list(values) for key, values in condition.items()}} if condition else {}
    return {"distribution": json.loads(distribution_to_json(distribution)), **when}


def text(distribution: BaseDistribution) -> str:
    """A distribution in words, as the report shows it."""
    return range_text(recorded(distribution, {}))


def _without_when(asked: Any) -> Any:
    """The range alone; None (the method's own) where there is nothing but `when`."""
    if not isinstance(asked, Mapping) or WHEN not in asked:
        return asked
    return {key: value for key, value in asked.items() if key != WHEN} or None


def _distribution(where: str, asked: Any, kind: Any) -> BaseDistribution:
    """Builds a distribution from {low, high, log, step} or {choices} for a key of type `kind`."""
    if isinstance(asked, Mapping) and set(asked) == {"choices"}:
        choices = asked["choices"]
        if not isinstance(choices, list | tuple) or not choices:
            raise ValueError(f"{where} choices must be a list of values, but got {choices!r}.")
        if any(isinstance(choice, list | dict) for choice in choices):
            raise ValueError(f"{where} choices must be single values, but got {choices!r}.")
        twice = [choice for at, choice in enumerate(choices) if choice in choices[:at]]
        if twice:
            raise ValueError(f"{where} choices must be different, but {twice[0]!r} is there twice.")
        return CategoricalDistribution(tuple(choices))
    if not isinstance(asked, Mapping) or not {"low", "high"} <= set(asked) <= set(RANGE_KEYS):
        raise ValueError(
            f"{where} must be null, {{low, high, log, step}} or {{choices}}, each with `when` "
            f"where it is needed, but got {asked!r}."
        )
    low, high, step, log = asked["low"], asked["high"], asked.get("step"), asked.get("log", False)
    bare = _without_none(kind)
    if bare not in (int, float):
        raise ValueError(f"{where} must be given as {{choices: [...]}}: it is not a number.")
    allowed = int if bare is int else (int, float)
    for number in (low, high, *([] if step is None else [step])):
        if not isinstance(number, allowed) or isinstance(number, bool):
            raise ValueError(f"{where} must use {bare.__name__} values, but got {number!r}.")
    if not isinstance(log, bool):
        raise ValueError(f"{where} log must be true or false, but got {log!r}.")
    if not low < high:
        raise ValueError(f"{where} must have low < high, but got {low=} and {high=}.")
    if log and low <= 0:
        raise ValueError(f"{where} must have low above 0 with log, but got {low=}.")
    if step is not None and (log or not 0 < step <= high - low):
        raise ValueError(f"{where} step must be in (0, high − low], without log, but got {step}.")
    if step is not None and not _is_whole((high - low) / step):
        most = Decimal(str(high)) - (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step))
        raise ValueError(
            f"{where} step must divide high − low, but got {low=}, {high=} and {step=}: "
            f"high could be {most}."
        )
    if bare is int:
        return IntDistribution(low, high, log=log, step=1 if step is None else step)
    return FloatDistribution(low, high, log=log, step=step)


def _is_whole(number: float) -> bool:
    """But for the rounding of floats."""
    return abs(number - round(number)) < ROUNDING


def _without_none(kind: Any) -> Any:
    """The type itself where None is allowed as well."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(member for member in typing.get_args(kind) if member is not type(None))
    return kind


def count(distribution: BaseDistribution) -> int | None:
    """How many values a distribution has; None where it has no step."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return None
    return round((distribution.high - distribution.low) / distribution.step) + 1


def grid_size(space: Space) -> int:
    """The number of points of a space in which every distribution has a step."""
    return math.prod(count(distribution) or 0 for distribution in space.values())


def resolve_conditions(
    search: str | Mapping[str, Any], method: str, space: Space
) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Returns the conditions (`when`) of the keys of `space`, which `resolve` gave for `method`.

    Raises:
        ValueError: if `when` does not map searched keys with choices, given before the key that
            depends on them, to some of these choices.
    """
    chosen = {} if isinstance(search, str) else of_method(search, method)
    if not isinstance(chosen, Mapping):
        return {}
    conditions: dict[str, dict[str, tuple[Any, ...]]] = {}
    mistakes: list[str] = []
    for at, (key, asked) in enumerate(chosen.items()):
        if isinstance(asked, Mapping) and WHEN in asked:
            where = f"search {method} {key} when"
            with errors.noted(mistakes):
                conditions[key] = _condition(where, asked[WHEN], space, [*chosen][:at])
    errors.refuse(mistakes)
    return conditions


def holding(settings: Mapping[str, Any], conditions: Conditions) -> dict[str, Any]:
    """The settings without those whose condition does not hold; parents come before children."""
    held: dict[str, Any] = {}
    for key, value in settings.items():
        if applies(key, held, conditions):
            held[key] = value
    return held


def misfit(settings: Mapping[str, Any], space: Space, conditions: Conditions) -> str | None:
    """Why `settings` are not a point of the space; None where they are."""
    for key in settings:
        if key not in space:
            return f"{key} must be one of the searched keys {sorted(space)}"
    for key, distribution in space.items():
        if not applies(key, settings, conditions):
            if key in settings:
                return f"{key} must be set where its condition holds only"
        elif key not in settings:
            return f"{key} must be given"
        elif not holds(distribution, settings[key]):
            return f"{key} must be {text(distribution)}, but is {settings[key]!r}"
    return None


def corners(
    space: Space, conditions: Conditions, most: int = MOST_CHECKS, start: int = 0
) -> Iterator[dict[str, Any]]:
    """Settings at the border of the space, every end of every range at least once.

    Each conditional key is at each end in each of the cases where it is a setting. Where that is
    more than `most` of either, it is those from number `start` on.
    """
    border = {key: ends(distribution) for key, distribution in space.items()}
    for settings in _combinations(border, most, start):
        yield holding(settings, conditions)
    yield from itertools.islice(_cases(border, conditions), most)


def _cases(
    border: Mapping[str, tuple[Any, ...]], conditions: Conditions
) -> Iterator[dict[str, Any]]:
    """Each conditional key at each end, in each of the cases where it is a setting."""
    low = {key: values[0] for key, values in border.items()}
    for key in conditions:
        for parent, values in conditions[key].items():
            for value in values:
                chosen = _enabled(key, {**low, parent: value}, conditions, {parent})
                for end in border[key]:
                    yield holding({**chosen, key: end}, conditions)


def _combinations(
    border: Mapping[str, tuple[Any, ...]], most: int, start: int
) -> Iterator[dict[str, Any]]:
    """Every end of every range at least once, then `CORNERS` of their combinations at most."""
    for at in range(start, start + min(most, max(map(len, border.values()), default=1))):
        yield {key: values[at % len(values)] for key, values in border.items()}
    for values in itertools.islice(itertools.product(*border.values()), min(most, CORNERS)):
        yield dict(zip(border, values, strict=True))


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
    where: str, when: Any, space: Space, before: Sequence[str]
) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, Mapping) or not when:
        raise ValueError(
            f"{where} must map a searched key to its value or values, say "
            f"{{method.energy: sigma2}}, but got {when!r}."
        )
    condition = {}
    for parent, asked in when.items():
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
                f"{where} must name keys with choices, but {parent!r} is {text(distribution)}."
            )
        values = tuple(asked) if isinstance(asked, list | tuple) else (asked,)
        wrong = [value for value in values if not holds(distribution, value)]
        if wrong or not values:
            raise ValueError(
                f"{where} {parent} must be among its choices {list(distribution.choices)}, "
                f"but got {wrong[0] if wrong else asked!r}."
            )
        condition[parent] = values
    return condition
