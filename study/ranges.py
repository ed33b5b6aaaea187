"""The `search` section of a study file as Optuna distributions."""

import math
import types
import typing
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

import search_spaces
from study import rules
from study.spec import RESERVED
from trainables.config import known_keys

RANGE_KEYS = ("low", "high", "log", "step")
WHEN = "when"
# How far a value may be from a step, as a share of the step.
ROUNDING = 1e-8


def resolve(
    search: str | Mapping[str, Any], method: str, taken: Collection[str]
) -> dict[str, BaseDistribution]:
    """Returns what is searched for `method`: flat key → distribution.

    `taken` are the keys that the cell sets itself: "all" leaves them out, naming one is an error.

    Raises:
        ValueError: if a key, a range or the search space is unknown or does not fit.
    """
    if search == "none":
        return {}
    chosen = "all" if search == "all" else of_method(search, method)
    if chosen == "all":
        return {k: v for k, v in search_spaces.space(method).items() if k not in taken}
    if not all(isinstance(key, str) for key in chosen):
        raise ValueError(f"search {method} must name keys, but got {chosen!r}.")
    ranges = chosen if isinstance(chosen, Mapping) else dict.fromkeys(chosen)
    known = known_keys(method)
    found = {}
    for key, given in ranges.items():
        where = f"search {method} {key}"
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}; known keys are {sorted(known)}.")
        if key in (*RESERVED, "preset", "recipe") or key.split(".")[0] in ("data", "backbone"):
            raise ValueError(
                f"{where} must not be searched: trials of a cell are compared, so they share "
                f"data, backbone, preset and recipe; put it in grid or fixed."
            )
        if key in taken:
            raise ValueError(f"{where} must not be in grid or fixed as well.")
        range_only = _without_when(given)
        if range_only is None:
            space = search_spaces.space(method)
            if key not in space:
                raise ValueError(
                    f"{where} must have a range ({{low, high}} or {{choices}}), since "
                    f"search_spaces/{method}.py has none for it; it has {sorted(space)}."
                )
            found[key] = space[key]
        else:
            found[key] = _distribution(where, range_only, known[key])
    return found


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
        return any(type(one) is type(value) and one == value for one in distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    whole = isinstance(distribution, IntDistribution)
    if not rules.is_number(value) or (whole and not isinstance(value, int)):
        return False
    if not distribution.low <= value <= distribution.high or not math.isfinite(value):
        return False
    if distribution.step is None or distribution.log:
        return True
    steps = (value - distribution.low) / distribution.step
    return bool(abs(steps - round(steps)) < ROUNDING)


def text(
    distribution: BaseDistribution, condition: Mapping[str, tuple[Any, ...]] | None = None
) -> str:
    """A distribution, and when it is searched, in words, as the ledger and the report show it."""
    when = "".join(
        f"{' and' if at else ' when'} {key} is {' or '.join(str(one) for one in values)}"
        for at, (key, values) in enumerate((condition or {}).items())
    )
    return _range_text(distribution) + when


def _range_text(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return "one of " + ", ".join(str(one) for one in distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    log = " (log)" if distribution.log else ""
    default = 1 if isinstance(distribution, IntDistribution) else None
    step = f" in steps of {distribution.step:g}" if distribution.step != default else ""
    return f"{distribution.low:g} to {distribution.high:g}{log}{step}"


def _without_when(given: Any) -> Any:
    """The range alone; None (the method's own) where there is nothing but `when`."""
    if not isinstance(given, Mapping) or WHEN not in given:
        return given
    return {key: value for key, value in given.items() if key != WHEN} or None


def _distribution(where: str, given: Any, kind: Any) -> BaseDistribution:
    """Builds a distribution from {low, high, log, step} or {choices} for a key of type `kind`."""
    if isinstance(given, Mapping) and set(given) == {"choices"}:
        choices = given["choices"]
        if not isinstance(choices, list | tuple) or not choices:
            raise ValueError(f"{where} choices must be a list of values, but got {choices!r}.")
        if any(isinstance(one, list | dict) for one in choices):
            raise ValueError(f"{where} choices must be single values, but got {choices!r}.")
        twice = [one for at, one in enumerate(choices) if one in choices[:at]]
        if twice:
            raise ValueError(f"{where} choices must be different, but {twice[0]!r} is there twice.")
        return CategoricalDistribution(tuple(choices))
    if not isinstance(given, Mapping) or not {"low", "high"} <= set(given) <= set(RANGE_KEYS):
        raise ValueError(
            f"{where} must be null, {{low, high, log, step}} or {{choices}}, each with `when` "
            f"where it is needed, but got {given!r}."
        )
    low, high, step = given["low"], given["high"], given.get("step")
    log = given.get("log", False)
    bare = _without_none(kind)
    if bare not in (int, float):
        raise ValueError(f"{where} must be given as {{choices: [...]}}: it is not a number.")
    allowed = int if bare is int else (int, float)
    for one in (low, high, *([] if step is None else [step])):
        if not isinstance(one, allowed) or isinstance(one, bool):
            raise ValueError(f"{where} must use {bare.__name__} values, but got {one!r}.")
    if not isinstance(log, bool):
        raise ValueError(f"{where} log must be true or false, but got {log!r}.")
    if not low < high:
        raise ValueError(f"{where} must have low < high, but got {low=} and {high=}.")
    if log and low <= 0:
        raise ValueError(f"{where} must have low above 0 with log, but got {low=}.")
    if step is not None and (log or not 0 < step <= high - low):
        raise ValueError(f"{where} step must be in (0, high − low], without log, but got {step}.")
    if step is not None and not _divides(step, high - low):
        most = Decimal(str(high)) - (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step))
        raise ValueError(
            f"{where} step must divide high − low, but got {low=}, {high=} and {step=}: "
            f"high could be {most}."
        )
    if bare is int:
        return IntDistribution(low, high, log=log, step=1 if step is None else step)
    return FloatDistribution(low, high, log=log, step=step)


def _divides(step: float, span: float) -> bool:
    """Whether a span is a whole number of steps, but for the rounding of floats."""
    return abs(span / step - round(span / step)) < 1e-9


def _without_none(kind: Any) -> Any:
    """The type itself where None is allowed as well."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(one for one in typing.get_args(kind) if one is not type(None))
    return kind
