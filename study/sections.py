"""The sections of a study file that have keys of their own: search, pruner, budget, resources."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from study import rules

PROTOCOLS = ("whole_stream", "first_k_tasks", "transfer")
PRUNERS = ("asha", "none")
CRITERIA = ("objective", "accuracy", "average_anytime_accuracy", "accuracy_minus_forgetting")
FORGETTING_CRITERION = "accuracy_minus_forgetting"

Space: TypeAlias = str | Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """What is searched, on which part of the stream, and where a search begins.

    `space` is "all" (every key of the search space of the cell's method that `grid` and `fixed`
    leave open), "none" (settings as they are: a cell with nothing to search is confirmed at once)
    or maps each method to "all", to a list of keys, or to {key: null for the method's own range,
    {low, high, log, step} or {choices}; each with `when` where another key decides whether the
    key is searched}.

    `protocol` says what a setting is chosen by: validation images of every task
    ("whole_stream"); of the first `first_tasks` tasks only, as a continual learner must, search
    trials ending there ("first_k_tasks"); or those of another class order or data set than it is
    confirmed on ("transfer": the search uses the first of `seeds`, confirmations the others, and
    each of `confirm_on` adds cells with other data; Cha & Cho 2024, arXiv 2403.09066).
    `compare` runs whole_stream beside it, on the same seeds, to show what the protocol costs.

    `defaults_first` makes the settings that hold without a search (those of the recipe, where one
    is selected) the first trial of a cell. `warm_start` is the absolute path of a past
    study's folder, whose best settings come next; it must still be there when the study is resumed.
    """

    space: Space = "all"
    protocol: str = "whole_stream"
    first_tasks: int | None = None
    confirm_on: tuple[Mapping[str, Any], ...] = ()
    compare: bool = False
    defaults_first: bool = True
    warm_start: str | None = None

    def __post_init__(self) -> None:
        _check_space(self.space)
        rules.one_of("search.protocol", self.protocol, PROTOCOLS)
        self._check_first_tasks()
        self._check_confirm_on()
        for key in ("compare", "defaults_first"):
            value = getattr(self, key)
            if not isinstance(value, bool):
                raise ValueError(f"search.{key} must be true or false, but got {value!r}.")
        if self.compare and self.protocol == "whole_stream":
            raise ValueError(
                "search.compare must be false for search.protocol whole_stream: it compares "
                "another protocol with that one."
            )
        if self.compare and self.protocol == "transfer" and not self.confirm_on:
            raise ValueError(
                "search.compare must be false for search.protocol transfer without "
                "search.confirm_on: to other class orders alone, whole_stream transfers just so."
            )
        past = self.warm_start
        if past is not None and not (isinstance(past, str) and Path(past).is_absolute()):
            raise ValueError(
                f"search.warm_start must be the absolute path of a study's folder, "
                f"but got {past!r}."
            )

    @classmethod
    def from_plain(cls, plain: Any) -> "Search":
        """Reads the section, or its short form: the space alone."""
        keys = [one.name for one in dataclasses.fields(cls)]
        if not isinstance(plain, Mapping) or not any(key in keys for key in plain):
            return cls(space=plain)
        rules.refuse_unknown("search key", plain, keys)
        values = dict(plain)
        if "confirm_on" in values:
            values["confirm_on"] = tuple(rules.listing("search.confirm_on", values["confirm_on"]))
        return cls(**values)

    def _check_first_tasks(self) -> None:
        if self.protocol == "first_k_tasks":
            rules.whole("search.first_tasks", self.first_tasks, least=1)
        elif self.first_tasks is not None:
            raise ValueError(
                f"search.first_tasks must be given for search.protocol first_k_tasks only, but "
                f"got {self.first_tasks!r} for {self.protocol}."
            )

    def _check_confirm_on(self) -> None:
        if self.confirm_on and self.protocol != "transfer":
            raise ValueError(
                f"search.confirm_on must be given for search.protocol transfer only, but got it "
                f"for {self.protocol}."
            )
        for one in self.confirm_on:
            if not one or not all(
                key.startswith("data.") for key in rules.mapping("each of search.confirm_on", one)
            ):
                raise ValueError(
                    f"each of search.confirm_on must map keys of data to values, say "
                    f"{{data.name: cub200}}, but got {one!r}."
                )


@dataclass(frozen=True)
class Pruner:
    """Successive halving by tasks seen, within a cell.

    At `first_rung` tasks, and then at every `reduction` times as many, a search trial goes on
    only among the best 1/`reduction` of those of its cell that came as far. "none" never prunes.

    `criterion` is what they are judged by: the study's first objective, the accuracy on
    validation images over the tasks seen (A_t), its mean over the tasks so far ("AAA"), or A_t −
    `forgetting_weight` × forgetting, which spares a setting that starts low and keeps what it
    learned; only the last reads the weight (null: 1).
    """

    kind: str = "asha"
    reduction: int = 3
    first_rung: int = 3
    criterion: str = "objective"
    forgetting_weight: float | None = None

    def __post_init__(self) -> None:
        rules.one_of("pruner.kind", self.kind, PRUNERS)
        rules.whole("pruner.reduction", self.reduction, least=2)
        rules.whole("pruner.first_rung", self.first_rung, least=1)
        rules.one_of("pruner.criterion", self.criterion, CRITERIA)
        if self.forgetting_weight is None:
            return
        _number("pruner.forgetting_weight", self.forgetting_weight, least=0)
        if self.criterion != FORGETTING_CRITERION:
            raise ValueError(
                f"pruner.forgetting_weight must be given for pruner.criterion "
                f"{FORGETTING_CRITERION} only, but got {self.forgetting_weight} for "
                f"{self.criterion}."
            )


@dataclass(frozen=True)
class Budget:
    """Limits of the search in each cell, beside `trials`.

    At the first that is reached no further search trial is launched there; those that run go on.
    `gpu_hours` adds up hours × GPUs of the cell's search trials, `wall_hours` counts from the
    launch of its first one, without the time between a stop and a resumption. Confirmations are
    not counted.
    """

    gpu_hours: float | None = None
    wall_hours: float | None = None

    def __post_init__(self) -> None:
        for key in ("gpu_hours", "wall_hours"):
            value = getattr(self, key)
            if value is not None and (not rules.is_number(value) or not 0 < value < math.inf):
                raise ValueError(f"budget.{key} must be a number above 0, but got {value!r}.")


@dataclass(frozen=True)
class Resources:
    """What each trial occupies: CPU cores (= its threads) and (shares of) GPUs.

    `gpu: auto` measures the device memory of the largest cell's first task before the study and
    takes the share 1/n that holds it; without a GPU in the cluster it is 0.
    """

    cpu: float = 1
    gpu: float | Literal["auto"] = 0

    def __post_init__(self) -> None:
        _number("resources.cpu", self.cpu, least=0.1)
        if self.gpu != "auto":
            _number("resources.gpu", self.gpu, least=0, beside=" or 'auto'")


def _number(key: str, value: Any, least: float, beside: str = "") -> None:
    if not rules.is_number(value) or not least <= value < math.inf:
        raise ValueError(
            f"{key} must be a number of at least {least:g}{beside}, but got {value!r}."
        )


def _check_space(space: Any) -> None:
    """Refuses anything but "all", "none" or a mapping of methods; ranges are checked later."""
    if space in ("all", "none"):
        return
    named = isinstance(space, Mapping) and all(isinstance(one, str) for one in space)
    if not named or not space:
        raise ValueError(
            f"search must be 'all', 'none' or map each method to keys, but got {space!r}."
        )
    own = [one.name for one in dataclasses.fields(Search)]
    for key in space:
        if key not in own and difflib.get_close_matches(key, own, n=1, cutoff=0.8):
            rules.refuse_unknown("search key", [key], own)
    for method, keys in space.items():
        if keys != "all" and not isinstance(keys, Mapping | list | tuple):
            raise ValueError(
                f"search {method} must be 'all', a list of keys or a mapping of keys to ranges, "
                f"but got {keys!r}."
            )


def section(kind: type, key: str, plain: Any) -> Any:
    """Builds the section `key` of a study file.

    Raises:
        ValueError: if it is no mapping, has an unknown key, or a value breaks a rule.
    """
    fields = rules.mapping(key, plain)
    rules.refuse_unknown(f"{key} key", fields, [one.name for one in dataclasses.fields(kind)])
    return kind(**fields)
