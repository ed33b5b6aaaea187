"""StudySpec: what a study file may say, and every rule about it that needs no cell."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from study import overrides as overriding
from study import published, rules, yaml_text
from study.sections import CRITERIA, Budget, Pruner, Resources, Search, section

SAMPLERS = ("tpe", "multivariate_tpe", "gp", "nsga2", "random", "grid", "qmc")
MODES = ("max", "min")
EXPORTS = ("best", "none")
SPLIT_METRICS = (
    "accuracy",
    "average_anytime_accuracy",
    "forgetting",
    "backward_transfer",
    "plasticity",
    "task_known_accuracy",
    "task_prediction_accuracy",
)
OBJECTIVES = (
    *(f"val/{name}" for name in SPLIT_METRICS),
    "memory/subspace_bytes",
    "memory/branch_bytes",
    "memory/checkpoint_bytes",
    "memory/peak_device_bytes",
    "memory/host_rss_bytes",
    "time/design_seconds",
    "time/train_seconds",
    "time/absorb_seconds",
    "time/evaluate_seconds",
    "time/images_per_second",
)
# What a trial reports from its second task on.
LATER_TASKS_ONLY = ("val/forgetting", "val/backward_transfer")
SEEDS_RULE = (
    "searches run on validation images with the first of seeds, confirmations on test images "
    "with each of seeds"
)
# What the study itself decides, and how.
RESERVED: Mapping[str, str] = MappingProxyType(
    {
        "data.evaluation": SEEDS_RULE,
        "seed": SEEDS_RULE,
        "data.split_sha256": "a study records the split that it finds when it starts and its "
        "trials refuse any other; data.manifest pins one",
    }
)


@dataclass(frozen=True)
class StudySpec:
    """A study: a search in every cell of `grid`, and its winner confirmed on `seeds`.

    `grid` maps flat keys to the values that span the cells; `fixed` maps flat keys to the value
    all cells share. `search` says what is searched, and how; see `Search`.
    `objective` maps metrics to max or min; they are compared as measured after the last task that
    a search sees (times are those of that task). With several, every setting on a cell's Pareto
    front is confirmed. In a study file a metric's name alone means min for val/forgetting,
    memory/* and time/*_seconds, max for others.
    `trials` is the number of search trials a cell, which `budget` may cut. `seeds` in a study
    file may be "published": those of the recipe that all cells select. A trial whose process dies
    is restarted from its last task `retries` times. `storage` is the absolute folder in which the
    study's own folder is made (null: results, where it is started). `export` says whether the
    merged weights of each cell's winner, of its first confirmed seed, are kept ("best") or not
    ("none").
    """

    name: str
    question: str
    grid: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    search: Search = field(default_factory=Search)
    objective: Mapping[str, str] = field(default_factory=lambda: {"val/accuracy": "max"})
    sampler: str = "tpe"
    pruner: Pruner = field(default_factory=Pruner)
    trials: int = 8
    budget: Budget = field(default_factory=Budget)
    seeds: tuple[int, ...] = (0, 1, 2)
    resources: Resources = field(default_factory=Resources)
    max_concurrent: int | None = None
    retries: int = 1
    storage: str | None = None
    export: str = "best"
    source: str = "study"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name):
            raise ValueError(
                f"name must be letters, digits, '_', '-' and '.' (a folder is named after it), "
                f"but got {self.name!r}."
            )
        if not isinstance(self.question, str) or not self.question.strip():
            raise ValueError(f"question must be a text, but got {self.question!r}.")
        _check_keys(self.grid, self.fixed, self.search.confirm_on)
        _check_objective(self.objective, self.resources)
        rules.one_of("sampler", self.sampler, SAMPLERS)
        rules.whole("trials", self.trials, least=1)
        for seed in self.seeds:
            rules.whole("each of seeds", seed, least=0)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(
                f"seeds must be a list of different whole numbers, but got {list(self.seeds)}."
            )
        if self.max_concurrent is not None:
            rules.whole("max_concurrent", self.max_concurrent, least=1)
        rules.whole("retries", self.retries, least=0)
        _check_storage(self.storage)
        rules.one_of("export", self.export, EXPORTS)
        _check_together(self)

    @property
    def metric(self) -> str:
        """Name of the metric that decides, the first where there are several."""
        return next(iter(self.objective))

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, −1 where less is."""
        return self.signs[0]

    @property
    def signs(self) -> tuple[int, ...]:
        """For each objective, in order: 1 where more is better, −1 where less is."""
        return tuple(1 if mode == "max" else -1 for mode in self.objective.values())

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Reads a study file and applies `overrides` ("key=value", the value in YAML).

        Raises:
            ValueError: if the file cannot be read or breaks a rule; the message names the file,
                the key, the value and what is allowed.
        """
        try:
            plain = yaml_text.parse(path.read_text(encoding="utf-8"))
            if not isinstance(plain, dict):
                raise ValueError("a study file must be a mapping of keys to values.")
            known = [one.name for one in dataclasses.fields(cls) if one.name != "source"]
            plain = overriding.apply(plain, overrides, known)
            return cls.from_plain(plain, source=str(path))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: must be text in UTF-8, but {error}.") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], source: str) -> Self:
        """Builds a spec from the values of a study file, naming `source` in later errors.

        Raises:
            ValueError: if a key is unknown or missing, or a value breaks a rule.
        """
        known = [one.name for one in dataclasses.fields(cls) if one.name != "source"]
        rules.refuse_unknown("key", plain, known)
        for key in ("name", "question", "grid"):
            if key not in plain:
                raise ValueError(f"the key {key!r} must be present.")
        values = dict(plain)
        values["grid"] = {
            key: tuple(rules.listing(f"grid {key}", axis))
            for key, axis in rules.mapping("grid", plain["grid"]).items()
        }
        for key, kind in (("pruner", Pruner), ("budget", Budget), ("resources", Resources)):
            if key in plain:
                values[key] = section(kind, key, plain[key])
        if "search" in plain:
            values["search"] = Search.from_plain(plain["search"])
        if plain.get("seeds") == "published":
            values["seeds"] = published.seeds(values["grid"], plain.get("fixed", {}))
        elif "seeds" in plain:
            values["seeds"] = tuple(rules.listing("seeds", plain["seeds"]))
        asked = plain.get("objective")
        if isinstance(asked, str):
            asked = [asked]
        if isinstance(asked, list) and all(isinstance(one, str) for one in asked):
            twice = [one for at, one in enumerate(asked) if one in asked[:at]]
            if twice:
                raise ValueError(f"objective must name a metric once, but has {twice[0]!r} twice.")
            values["objective"] = {one: _mode(one) for one in asked}
        return cls(**values, source=source)

    def to_plain(self) -> dict[str, Any]:
        """The study file as plain data, every key present; `from_plain` reads it back."""
        plain = dataclasses.asdict(self)
        plain.pop("source")
        return plain


def _check_keys(
    grid: Mapping[str, Sequence[Any]], fixed: Any, confirm_on: Sequence[Mapping[str, Any]]
) -> None:
    """Refuses empty axes, values that occur twice, reserved keys and keys in both places."""
    rules.mapping("fixed", fixed)
    if not grid:
        raise ValueError("grid must have at least one axis, say method.name: [inflora, sd_lora].")
    for key, axis in grid.items():
        if not axis:
            raise ValueError(f"grid {key} must list at least one value, but it is empty.")
        twice = [value for at, value in enumerate(axis) if value in axis[:at]]
        if twice:
            raise ValueError(f"grid {key} must list each value once, but has {twice[0]!r} twice.")
        if key in fixed:
            raise ValueError(f"{key} must be in grid or in fixed, but it is in both.")
    for key in (*grid, *fixed, *(key for one in confirm_on for key in one)):
        if key in RESERVED:
            raise ValueError(f"{key} must not be set: {RESERVED[key]}.")


def _mode(metric: str) -> str:
    """What a metric is better at: less of what is lost, held or waited for, more of the others."""
    seconds = metric.startswith("time/") and metric.endswith("_seconds")
    less = metric == "val/forgetting" or metric.startswith("memory/") or seconds
    return "min" if less else "max"


def _check_objective(objective: Any, resources: Resources) -> None:
    """Refuses test metrics, metrics that no trial reports, and none at all."""
    if not isinstance(objective, Mapping) or not objective:
        raise ValueError(
            f"objective must map metrics to max or min, say {{val/accuracy: max}}, "
            f"but got {objective!r}."
        )
    for metric, mode in objective.items():
        if str(metric).startswith("test/"):
            raise ValueError(
                f"objective must not look at test images (settings chosen on them would be "
                f"flattered), but got {metric!r}: use {str(metric).replace('test/', 'val/', 1)!r}."
            )
        rules.one_of("objective", metric, OBJECTIVES)
        rules.one_of(f"objective {metric}", mode, MODES)
        if metric == "memory/peak_device_bytes" and resources.gpu == 0:
            raise ValueError(
                f"resources.gpu must be above 0 for objective {metric}, but got {resources.gpu}."
            )


def _check_storage(storage: Any) -> None:
    if storage is None:
        return
    if not isinstance(storage, str) or not Path(storage).is_absolute():
        raise ValueError(f"storage must be the absolute path of a folder, but got {storage!r}.")


def _check_together(spec: StudySpec) -> None:
    """Refuses values of different keys that do not fit together."""
    several = len(spec.objective) > 1
    if several and spec.pruner.kind != "none" and spec.pruner.criterion == "objective":
        raise ValueError(
            f"pruner.criterion must be one of {list(CRITERIA[1:])}, or pruner.kind none, where "
            f"there are several objectives, but got 'objective'."
        )
    if spec.budget.gpu_hours is not None and spec.resources.gpu == 0:
        raise ValueError(
            f"resources.gpu must be above 0 for budget.gpu_hours, but got {spec.resources.gpu}."
        )
    if spec.search.protocol == "transfer" and len(spec.seeds) < 2:
        raise ValueError(
            f"seeds must be at least 2 for search.protocol transfer (the first for the search, "
            f"the others for confirmations), but got {list(spec.seeds)}."
        )
