"""StudySpec: what a study file may say, and every rule about it that needs no cell."""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from study import errors
from study.planning import published, study_file
from study.planning.contrasts import Contrasts, Margin, UntilDecided
from study.planning.mistakes import MAPPED, PLAIN, Must, Place, broken_rules
from study.planning.sections import (
    CONFIG,
    PEAK_MEMORY,
    Budget,
    FlatKey,
    MethodSettings,
    Objective,
    Positive,
    Pruner,
    Resources,
    Search,
    Tracking,
    reader_of_every_task,
)

Sampler: TypeAlias = Literal["tpe", "multivariate_tpe", "gp", "nsga2", "random", "grid", "qmc"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Natural: TypeAlias = Annotated[int, Must("a whole number of at least 0", ge=0)]


def _form(value: Any) -> str:
    """The tag of the form in which a section is given: which of two is tried is seen at once."""
    return MAPPED if isinstance(value, Mapping | BaseModel) else PLAIN


# A list of seeds, or how they come in rounds.
Seeds: TypeAlias = Annotated[
    Annotated[tuple[Natural, ...], Tag(PLAIN)] | Annotated[UntilDecided, Tag(MAPPED)],
    Discriminator(_form),
]
# In a word, or with what is shown.
Shown: TypeAlias = Annotated[
    Annotated[Literal["mlflow", "none"], Tag(PLAIN)] | Annotated[Tracking, Tag(MAPPED)],
    Discriminator(_form),
]
# Where flat keys have values.
SETTINGS = ("grid", "fixed")
MOST_SEEDS = 1000
MOST_CELLS = 2000
# A folder's name may have 255: with the time, and what other files are called after it.
MOST_NAME_BYTES = 200


def _axis(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise PydanticCustomError("rule", "list at least one value")
    if len(values) > MOST_CELLS:
        raise PydanticCustomError("rule", f"list at most {MOST_CELLS} values")
    twice = [value for at, value in enumerate(values) if value in values[:at]]
    if twice:
        raise PydanticCustomError("rule", "list each value once")
    return values


Axis: TypeAlias = Annotated[tuple[Any, ...], AfterValidator(_axis)]


def _axes(grid: Mapping[str, Any]) -> Mapping[str, Any]:
    if not grid:
        raise ValueError("grid must have at least one axis, say method.name: [inflora, sd_lora].")
    cells = math.prod(len(axis) for axis in grid.values())
    if cells > MOST_CELLS:
        raise ValueError(f"grid must span at most {MOST_CELLS} cells, but spans {cells}.")
    return grid


def _only_fixed(key: str, info: ValidationInfo) -> str:
    if key in info.data.get("grid", ()):
        raise ValueError(f"{key} must be in grid or in fixed, but it is in both.")
    return key


def _only_of_methods(
    settings: Mapping[str, Mapping[str, Any]], info: ValidationInfo
) -> Mapping[str, Mapping[str, Any]]:
    for method, own in settings.items():
        for section in SETTINGS:
            for key in own:
                if key in info.data.get(section, ()):
                    raise ValueError(
                        f"settings {method} must not have {key}, which is in {section}."
                    )
    return settings


def _fits_a_folder(name: str) -> str:
    if len(name.encode()) > MOST_NAME_BYTES:
        raise PydanticCustomError(
            "rule", f"have at most {MOST_NAME_BYTES} bytes (a folder is named after it)"
        )
    return name


class StudySpec(BaseModel):
    """A study: a search in every cell of `grid`, and its winner confirmed on `seeds`."""

    model_config = CONFIG

    name: Annotated[
        str,
        Must(
            "letters, digits, '_', '-' and '.' (a folder is named after it)",
            pattern=r"^[A-Za-z0-9][\w.-]*$",
        ),
        AfterValidator(_fits_a_folder),
    ]
    """Name of the study: its folder is named after it."""
    question: Annotated[str, Must("a text", pattern=r"\S")]
    """What the study is to answer, in a sentence."""
    grid: Annotated[Mapping[FlatKey, Axis], AfterValidator(_axes)]
    """Flat keys with the values that span the cells."""
    fixed: Mapping[Annotated[FlatKey, AfterValidator(_only_fixed)], Any] = {}
    """Flat keys with the value that all cells share."""
    settings: Annotated[Mapping[str, MethodSettings], AfterValidator(_only_of_methods)] = {}
    """Methods with flat keys of `method` and `optim`, and the value that their cells share."""
    search: Search = Search()
    """What is searched, and how; or its space alone."""
    objective: Objective = {"val/accuracy": "max"}
    """Metrics with max or min, compared as measured after the last task that a search sees (times
    are those of that task). With several, every setting on a cell's Pareto front is confirmed. A
    name alone means min for val/forgetting…, memory/* and time/*_seconds, max for others."""
    sampler: Sampler = "tpe"
    """What proposes settings; grid, qmc and random do not learn from results."""
    pruner: Pruner = Pruner()
    """When a search trial that does badly ends early."""
    trials: Positive = 8
    """Search trials a cell, which `budget` may cut."""
    budget: Budget = Budget()
    """Limits of the search in each cell, beside `trials`."""
    seeds: Seeds = (0, 1, 2)
    """What confirmations run with; "published": those of the recipe that all cells select;
    {first, at_most, until: decided}: seeds 0, 1, … in rounds, of which those beyond the first go
    only to the cells of contrasts that are still open."""
    contrasts: Contrasts = None
    """What is compared, each "A vs B" (two values of a key of the grid) or {key, first, second,
    metric, where, non_inferiority}; they share an error rate of 5 %. Null: the first method that
    is no reference point against each reference point; none, or an empty list: nothing."""
    margin: Margin = 1.0
    """Differences that are smaller count as equal: points (percent) for shares, such as
    accuracies, and the metric's own unit for others."""
    resources: Resources = Resources()
    """What a trial occupies."""
    max_concurrent: Positive | None = None
    """Trials that run at the same time, at most; null: as many as fit."""
    retries: Natural = 1
    """How often a trial whose process dies is restarted from its last task."""
    storage: (
        Annotated[str, Must("the absolute path of a folder", pattern=r"^/[^\x00]*$")] | None
    ) = None
    """The absolute folder in which the study's own folder is made (null: results, where it is
    started)."""
    export: Literal["best", "none"] = "best"
    """Whether the merged weights of each cell's winner, of its first confirmed seed, are kept."""
    tracking: Shown = "mlflow"
    """What shows the study while it runs: mlflow, {detail, optuna}, or none; --replay brings one
    without it to MLflow later, --optuna its searches to Optuna's dashboard."""

    _source: str = "study"

    @property
    def source(self) -> str:
        """Where the study was read, for messages."""
        return self._source

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

    @property
    def search_seed(self) -> int:
        """The seed that searches run with."""
        return 0 if isinstance(self.seeds, UntilDecided) else self.seeds[0]

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds that every cell is confirmed on; after a transfer not that of the search."""
        if not isinstance(self.seeds, UntilDecided):
            return self.seeds[self._of_search :]
        return tuple(range(self._of_search, self._of_search + self.seeds.first))

    @property
    def further_seeds(self) -> tuple[int, ...]:
        """The seeds that may follow, in their order, in the cells of open contrasts."""
        if not isinstance(self.seeds, UntilDecided):
            return ()
        begin, end = self.seeds.first, self.seeds.at_most
        return tuple(range(self._of_search + begin, self._of_search + end))

    @property
    def _of_search(self) -> int:
        """How many seeds are the search's alone."""
        return 1 if self.search.protocol == "transfer" else 0

    @property
    def every_task_for(self) -> str | None:
        """What needs the accuracies of search trials after every task; None where nothing does."""
        return reader_of_every_task(self.objective, self.pruner)

    def evaluated(self, role: str, tasks: int) -> tuple[int, ...] | None:
        """The numbers of tasks after which a trial that sees `tasks` is evaluated; None: each."""
        evaluate = self.search.evaluate or ("every_task" if self.every_task_for else "rungs")
        if role != "search" or evaluate == "every_task":
            return None
        return (*self.pruner.rungs(tasks), tasks)

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> "StudySpec":
        """Reads a study file and applies `overrides` ("key=value", the value in YAML).

        Raises:
            ValueError: if the file cannot be read or breaks rules; the message names the file
                and, of all mistakes, the key, the value and what is allowed.
        """
        plain = study_file.read(path, overrides, list(cls.model_fields))
        return cls.from_plain(plain, source=str(path))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], source: str) -> "StudySpec":
        """Builds a spec from the values of a study file, naming `source` in errors.

        Raises:
            InvalidStudyError: if keys are unknown or missing, or values break rules.
        """
        spec, mistakes = checked(plain, source)
        errors.refuse(list(itertools.chain(*mistakes.values())), source)
        assert spec is not None
        return spec

    def to_plain(self) -> dict[str, Any]:
        """The study file as plain data, every key present; `from_plain` reads it back."""
        return self.model_dump()

    @field_validator("search", mode="before")
    @classmethod
    def _full_search(cls, search: Any) -> Any:
        return Search.full_form(search)

    @field_validator("pruner", "seeds", "resources")
    @classmethod
    def _check_together(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses what does not go with the keys before it."""
        objective = info.data.get("objective", {})
        if info.field_name == "pruner" and len(objective) > 1:
            criteria = get_args(Pruner.model_fields["criterion"].annotation)
            if value.kind != "none" and value.criterion == criteria[0]:
                raise ValueError(
                    f"pruner.criterion must be one of {list(criteria[1:])}, or pruner.kind none, "
                    f"where there are several objectives, but got {value.criterion!r}."
                )
        if info.field_name == "pruner" and info.data.get("search", Search()).evaluate == "rungs":
            reader = reader_of_every_task(objective, value)
            if reader is not None:
                raise ValueError(
                    f"search.evaluate must be every_task for {reader}, which is of the accuracies "
                    f"after every task, but got 'rungs'."
                )
        if info.field_name == "seeds" and not isinstance(value, UntilDecided):
            if len(value) > MOST_SEEDS:
                raise ValueError(f"seeds must be at most {MOST_SEEDS}, but got {len(value)}.")
            if not value or len(set(value)) != len(value):
                raise ValueError(
                    f"seeds must be a list of different whole numbers, but got {list(value)}."
                )
            if info.data.get("search", Search()).protocol == "transfer" and len(value) < 2:
                raise ValueError(
                    f"seeds must be at least 2 for search.protocol transfer (the first for the "
                    f"search, the others for confirmations), but got {list(value)}."
                )
        if info.field_name == "resources" and value.gpu == 0:
            readers = [f"objective {name}" for name in objective if name == PEAK_MEMORY]
            if info.data.get("budget", Budget()).gpu_hours is not None:
                readers.append("budget.gpu_hours")
            errors.refuse(
                [
                    f"resources.gpu must be above 0 for {reader}, but got {value.gpu}."
                    for reader in readers
                ]
            )
        return value

    @field_validator("contrasts")
    @classmethod
    def _check_asked(cls, contrasts: Contrasts, info: ValidationInfo) -> Contrasts:
        if contrasts == () and isinstance(info.data.get("seeds"), UntilDecided):
            raise ValueError(
                "contrasts must not be none with seeds until decided: nothing would be decided."
            )
        return contrasts

    @field_validator("seeds", mode="before")
    @classmethod
    def _published_seeds(cls, seeds: Any, info: ValidationInfo) -> Any:
        """Those of the recipe, unless what selects it is wrong."""
        if seeds != "published":
            return seeds
        if not {"grid", "fixed"} <= info.data.keys():
            return cls.model_fields["seeds"].default
        return published.seeds(info.data["grid"], info.data["fixed"])


def checked(
    plain: Mapping[str, Any], source: str
) -> tuple[StudySpec | None, dict[Place, list[str]]]:
    """The spec of a study file, and what is wrong with the file, by place.

    Where something is wrong, the spec is of what can be checked further: grid, fixed and search
    without their mistakes; None where that says nothing.
    """
    mistakes: dict[Place, list[str]] = {}
    while True:
        try:
            # Some rules are looked at where the keys before them are right, hence again.
            spec = StudySpec.model_validate(_without(plain, mistakes))
        except ValidationError as error:
            broken = broken_rules(StudySpec, error)
            # That a section is empty without its mistakes is none.
            new = {place for place in broken.keys() - mistakes.keys() if place[1:] or not mistakes}
            if not new:
                return None, mistakes
            mistakes |= {place: broken[place] for place in broken if place in new}
        else:
            spec._source = source
            return spec, mistakes


def _without(plain: Mapping[str, Any], mistakes: Collection[Place]) -> dict[str, Any]:
    """Grid, fixed and search of a study file without their mistakes; all of it without any."""
    if not mistakes:
        return dict(plain)
    wrong = {place[:2] for place in mistakes}
    rest: dict[str, Any] = {"name": "rest", "question": "What else is wrong?"}
    for section in SETTINGS:
        values = plain.get(section)
        if isinstance(values, Mapping) and (section,) not in wrong:
            rest[section] = {key: v for key, v in values.items() if (section, key) not in wrong}
    right = {place[0] for place in wrong}.isdisjoint
    settings = plain.get("settings", {}) if right(["settings"]) else {}
    search = plain.get("search", "all") if right(["search"]) else "none"
    return {**rest, "settings": settings, "search": search}
