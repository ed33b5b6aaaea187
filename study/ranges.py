"""The `search` section of a study file as Optuna distributions."""

import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

import search_spaces
from study.spec import RESERVED
from trainables.config import known_keys

RANGE_KEYS = ("low", "high", "log", "step")


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
    chosen = "all" if search == "all" else _of_method(search, method)
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
        if given is None:
            space = search_spaces.space(method)
            if key not in space:
                raise ValueError(
                    f"{where} must have a range ({{low, high}} or {{choices}}), since "
                    f"search_spaces/{method}.py has none for it; it has {sorted(space)}."
                )
            found[key] = space[key]
        else:
            found[key] = _distribution(where, given, known[key])
    return found


def ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    """The values at the border of a distribution: low and high, or all choices."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return (distribution.low, distribution.high)


def text(distribution: BaseDistribution) -> str:
    """A distribution in words, as the ledger and the report show it."""
    if isinstance(distribution, CategoricalDistribution):
        return "one of " + ", ".join(str(one) for one in distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    log = " (log)" if distribution.log else ""
    default = 1 if isinstance(distribution, IntDistribution) else None
    step = f" in steps of {distribution.step:g}" if distribution.step != default else ""
    return f"{distribution.low:g} to {distribution.high:g}{log}{step}"


def _of_method(search: Any, method: str) -> Any:
    if method not in search:
        raise ValueError(
            f"search must name every method of the study, but names {sorted(search)} and not "
            f"{method!r}: add '{method}: all'."
        )
    return search[method]


def _distribution(where: str, given: Any, kind: Any) -> BaseDistribution:
    """Builds a distribution from {low, high, log, step} or {choices} for a key of type `kind`."""
    if isinstance(given, Mapping) and set(given) == {"choices"}:
        choices = given["choices"]
        if not isinstance(choices, list | tuple) or not choices:
            raise ValueError(f"{where} choices must be a list of values, but got {choices!r}.")
        if any(isinstance(one, list | dict) for one in choices):
            raise ValueError(f"{where} choices must be single values, but got {choices!r}.")
        return CategoricalDistribution(tuple(choices))
    if not isinstance(given, Mapping) or not {"low", "high"} <= set(given) <= set(RANGE_KEYS):
        raise ValueError(
            f"{where} must be null, {{low, high, log, step}} or {{choices}}, but got {given!r}."
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
    if bare is int:
        return IntDistribution(low, high, log=log, step=1 if step is None else step)
    return FloatDistribution(low, high, log=log, step=step)


def _without_none(kind: Any) -> Any:
    """The type itself where None is allowed as well."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(one for one in typing.get_args(kind) if one is not type(None))
    return kind
