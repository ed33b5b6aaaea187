"""The sections of a study file that have keys of their own, and what a search may look for."""

import difflib
import functools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from annotated_types import MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from study import errors
from study.planning.mistakes import Must
from trainables.config import catalog, known_keys

# Defaults are checked as well, since what one key says can ask for another one.
CONFIG = ConfigDict(
    extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
)
# Between the levels of a contrast in its short form.
VERSUS = re.compile(r"\s+vs\.?\s+")
SEEDS_RULE = (
    "searches run on validation images with the first of seeds, confirmations on test images "
    "with each of seeds"
)
# What the study itself decides, and how.
RESERVED: Mapping[str, str] = {
    "data.evaluation": SEEDS_RULE,
    "seed": SEEDS_RULE,
    "data.split_sha256": "a study records the split that it finds when it starts and its trials "
    "refuse any other; data.manifest pins one",
}
FORGETTING_CRITERION = "accuracy_minus_forgetting"
Mode: TypeAlias = Literal["max", "min"]
PEAK_MEMORY = "memory/peak_device_bytes"
# Every metric with what is better where a study file does not say.
OBJECTIVES: Mapping[str, Mode] = {
    "val/accuracy": "max",
    "val/average_anytime_accuracy": "max",
    "val/forgetting": "min",
    "val/forgetting_zero_gains": "min",
    "val/backward_transfer": "max",
    "val/plasticity": "max",
    "val/task_known_accuracy": "max",
    "val/task_prediction_accuracy": "max",
    "val/recency_bias": "min",
    "memory/subspace_bytes": "min",
    "memory/branch_bytes": "min",
    "memory/checkpoint_bytes": "min",
    PEAK_MEMORY: "min",
    "memory/host_rss_bytes": "min",
    "time/design_seconds": "min",
    "time/train_seconds": "min",
    "time/absorb_seconds": "min",
    "time/evaluate_seconds": "min",
    "time/images_per_second": "max",
}
# What a trial reports from its second task on.
LATER_TASKS_ONLY = (
    "val/forgetting",
    "val/forgetting_zero_gains",
    "val/backward_transfer",
    "val/recency_bias",
)
# What the accuracies after every task are needed for; a search that skips some does not have it.
OF_EVERY_TASK = (
    "average_anytime_accuracy",
    "forgetting",
    "forgetting_zero_gains",
    "backward_transfer",
    "plasticity",
)


@functools.cache
def flat_keys() -> Mapping[str, Any]:
    """Every flat key of a trial with its type, over all methods."""
    kinds: dict[str, Any] = {}
    for method in catalog.methods():
        for key, kind in known_keys(method).items():
            kinds[key] = kinds.get(key, kind) | kind
    return kinds


def text(value: Any) -> str:
    """A value of a key, as ids of cells have it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _settable(key: str) -> str:
    if key not in flat_keys():
        raise ValueError(errors.unknown("key", key, flat_keys()))
    if key in RESERVED:
        raise ValueError(f"{key} must not be set: {RESERVED[key]}.")
    return key


def _of_data(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    if not cell or not all(key.startswith("data.") for key in cell):
        raise PydanticCustomError(
            "rule", "map keys of data to values, say {example}", {"example": "{data.name: cub200}"}
        )
    return cell


def _of_method(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    known = all(key.startswith(("method.", "optim.")) for key in settings)
    if not settings or not known or "method.name" in settings:
        raise PydanticCustomError(
            "rule",
            "map keys of method and optim to values, say {example}",
            {"example": "{optim.lr: 0.001}"},
        )
    return settings


def _metric(metric: str) -> str:
    """Refuses test metrics, and metrics that no trial reports."""
    if metric.startswith("test/"):
        raise ValueError(
            f"objective must not look at test images (settings chosen on them would be "
            f"flattered), but got {metric!r}: use {metric.replace('test/', 'val/', 1)!r}."
        )
    if metric not in OBJECTIVES:
        raise ValueError(errors.one_of("objective", metric, OBJECTIVES))
    return metric


def _full_form(objective: Any) -> Any:
    """Metrics that are named alone, with their modes."""
    names = [objective] if isinstance(objective, str) else objective
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        twice = [name for at, name in enumerate(names) if name in names[:at]]
        if twice:
            raise ValueError(f"objective must name a metric once, but has {twice[0]!r} twice.")
        return {name: OBJECTIVES.get(name, "max") for name in names}
    if not isinstance(objective, Mapping) or not objective:
        raise ValueError(
            f"objective must map metrics to max or min, say {{val/accuracy: max}}, "
            f"but got {objective!r}."
        )
    return objective


Objective: TypeAlias = Annotated[
    Mapping[Annotated[str, AfterValidator(_metric)], Mode], BeforeValidator(_full_form)
]
FlatKey: TypeAlias = Annotated[str, AfterValidator(_settable)]
OtherData: TypeAlias = Annotated[Mapping[FlatKey, Any], AfterValidator(_of_data)]
MethodSettings: TypeAlias = Annotated[Mapping[FlatKey, Any], AfterValidator(_of_method)]
Positive: TypeAlias = Annotated[int, Must("a whole number of at least 1", ge=1)]
Hours: TypeAlias = Annotated[float, Must("a number above 0", gt=0, allow_inf_nan=False)]
Share: TypeAlias = Annotated[float, Must("a number of at least 0", ge=0, allow_inf_nan=False)]
Truth: TypeAlias = Annotated[bool, Must("true or false", strict=True)]


class Search(BaseModel):
    """What is searched, on which part of the stream, and where a search begins."""

    model_config = CONFIG

    space: Annotated[
        Literal["all", "none"] | Annotated[Mapping[str, Any], MinLen(1)],
        Must("'all', 'none' or map each method to keys"),
    ] = "all"
    """What is searched: "all" (what `grid` and `fixed` leave open of the method's search space),
    "none" (a cell is confirmed at once, with settings as they are), or each method with "all", a
    list of keys, or {key: null for the method's own range, {low, high, log, step} or {choices};
    each with `when` where another key decides whether the key is searched}."""
    protocol: Literal["whole_stream", "first_k_tasks", "transfer"] = "whole_stream"
    """What a setting is chosen by: validation images of every task; of the first `first_tasks`
    tasks only, as a continual learner must, search trials ending there; or those of another class
    order or data set than it is confirmed on (the search uses the first of `seeds`, confirmations
    the others; Cha & Cho 2024, arXiv 2403.09066)."""
    first_tasks: Positive | None = None
    """How many tasks a search sees, for protocol first_k_tasks."""
    confirm_on: tuple[OtherData, ...] = ()
    """Other data, each of which adds cells, for protocol transfer."""
    compare: Truth = False
    """Whether whole_stream runs beside it, on the same seeds, to show what the protocol costs."""
    defaults_first: Truth = True
    """Whether the first trial of a cell has the settings that hold without a search: those of the
    recipe, where one is selected."""
    warm_start: (
        Annotated[str, Must("the absolute path of a study's folder", pattern="^/")] | None
    ) = None
    """Folder of a past study, whose best settings come next; it must still be there when the study
    is resumed."""

    evaluate: Annotated[
        Literal["rungs", "every_task"] | None, Must("'rungs', 'every_task' or null")
    ] = None
    """When search trials evaluate the tasks seen: at the pruner's rungs and after their last task
    alone, or after every task, as confirmations do (null: rungs, unless the objective or the
    pruner's criterion is of the accuracies after every task)."""

    @classmethod
    def full_form(cls, plain: Any) -> Any:
        """The section with its keys, from these or from what its space is, alone."""
        if isinstance(plain, cls):
            return plain
        keys = plain if isinstance(plain, Mapping) else ()
        # A key that is nearly one of them is a mistake in the section, and no method's name.
        near = [difflib.get_close_matches(str(key), cls.model_fields, 1, 0.8) for key in keys]
        return plain if any(near) else {"space": plain}

    @field_validator("first_tasks", "confirm_on", "compare")
    @classmethod
    def _check_protocol(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses what says nothing with the protocol, which stands before it."""
        key, protocol = info.field_name, info.data.get("protocol")
        if key == "first_tasks" and protocol == "first_k_tasks" and value is None:
            raise ValueError(
                "search.first_tasks must be a whole number of at least 1 for search.protocol "
                "first_k_tasks, but got None."
            )
        reader = {"first_tasks": "first_k_tasks", "confirm_on": "transfer"}.get(str(key), protocol)
        if value and protocol not in (None, reader):
            raise ValueError(
                f"search.{key} must be given for search.protocol {reader} only, but got "
                f"{value!r} for {protocol}."
            )
        why = {"whole_stream": "whole_stream: it compares another protocol with that one"}
        if info.data.get("confirm_on") == ():
            why["transfer"] = (
                "transfer without search.confirm_on: to other class orders alone, whole_stream "
                "transfers just so"
            )
        if key == "compare" and value and protocol in why:
            raise ValueError(f"search.compare must be false for search.protocol {why[protocol]}.")
        return value


class Pruner(BaseModel):
    """Successive halving by tasks seen, within a cell."""

    model_config = CONFIG

    kind: Literal["asha", "none"] = "asha"
    """How trials are compared; "none" never prunes."""
    reduction: Annotated[int, Must("a whole number of at least 2", ge=2)] = 3
    """At `first_rung` tasks, and then at every `reduction` times as many, a search trial goes on
    only among the best 1/`reduction` of those of its cell that came as far."""
    first_rung: Positive = 3
    """Number of tasks after which trials are first compared."""
    criterion: Literal[
        "objective", "accuracy", "average_anytime_accuracy", "accuracy_minus_forgetting"
    ] = "objective"
    """What they are judged by: the study's first objective, the accuracy on validation images
    over the tasks seen (A_t), its mean over the tasks so far ("AAA"), or A_t −
    `forgetting_weight` × forgetting, which spares a setting that starts low and keeps what it
    learned."""
    forgetting_weight: Share | None = None
    """Weight of the forgetting in criterion accuracy_minus_forgetting (null: 1)."""

    def rungs(self, tasks: int) -> tuple[int, ...]:
        """The numbers of tasks at which trials are compared: none after all `tasks` of a search."""
        found = []
        rung = self.first_rung
        while self.kind == "asha" and rung < tasks:
            found.append(rung)
            rung *= self.reduction
        return tuple(found)

    @field_validator("forgetting_weight")
    @classmethod
    def _check_weight(cls, weight: float | None, info: ValidationInfo) -> float | None:
        criterion = info.data.get("criterion", FORGETTING_CRITERION)
        if weight is not None and criterion != FORGETTING_CRITERION:
            raise ValueError(
                f"pruner.forgetting_weight must be given for pruner.criterion "
                f"{FORGETTING_CRITERION} only, but got {weight} for {criterion}."
            )
        return weight


def reader_of_every_task(objective: Iterable[str], pruner: Pruner) -> str | None:
    """What of a study needs the accuracies after every task, in words; None where nothing does."""
    for metric in objective:
        if metric.removeprefix("val/") in OF_EVERY_TASK:
            return f"objective {metric}"
    needing = (OF_EVERY_TASK[0], FORGETTING_CRITERION)
    if pruner.kind != "none" and pruner.criterion in needing:
        return f"pruner.criterion {pruner.criterion}"
    return None


class Budget(BaseModel):
    """Limits of the search in each cell, beside `trials`.

    At the first that is reached no further search trial is launched there; those that run go on.
    Confirmations are not counted.
    """

    model_config = CONFIG

    gpu_hours: Hours | None = None
    """Hours × GPUs of the cell's search trials, added up."""
    wall_hours: Hours | None = None
    """Hours since the launch of the cell's first trial, but for those that the study was down."""


def _without_password(url: str) -> str:
    if "://" not in url:
        raise PydanticCustomError("rule", "be a URL, say sqlite:////tmp/searches.db")
    if urlsplit(url).password is not None:
        # The value is not said.
        raise ValueError(
            "tracking.optuna must hold no password, since ledger and report would show it: "
            "PostgreSQL takes it from PGPASSWORD or ~/.pgpass."
        )
    return url


class Tracking(BaseModel):
    """What is shown of a study while it runs."""

    model_config = CONFIG

    detail: Literal["every_task", "summary"] = "every_task"
    """Of search trials MLflow gets the metrics of every task, or of the last alone ("summary", for
    studies of thousands); of confirmations always all."""
    optuna: Annotated[str, AfterValidator(_without_password)] | None = None
    """URL of a storage of Optuna that gets each search trial when it ends (null: none)."""


class Resources(BaseModel):
    """What each trial occupies."""

    model_config = CONFIG

    cpu: Annotated[float, Must("a number of at least 0.1", ge=0.1, allow_inf_nan=False)] = 1
    """CPU cores, which are its threads."""
    gpu: Annotated[Share | Literal["auto"], Must("a number of at least 0 or 'auto'")] = 0
    """GPUs, or the share of one; "auto": the share 1/n whose device memory holds the first task of
    the largest cell, measured before the study; without a GPU in the cluster it is 0."""
