"""From a spec to cells, and from a cell to its search and confirmation trials."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from optuna.distributions import BaseDistribution

from study import ranges
from study.spec import LATER_TASKS_ONLY, StudySpec
from trainables import catalog
from trainables.config import DataConfig, Params, TrialConfig

Role: TypeAlias = Literal["search", "confirm"]
EVALUATION: Mapping[Role, str] = {"search": "validation", "confirm": "test"}
# Of the combinations of the ends of all ranges that are checked; a cell takes milliseconds then.
CORNERS = 256
SPLIT_KEY = "data.split_sha256"


@dataclass(frozen=True)
class PlannedTrial:
    """One training run: all that it depends on is in `params` (flat, every key present).

    `id` is a stable hash of cell and params, so that it is the same in every run of a study. The
    hash of the split is left out: a driver without the files does not know it.
    """

    id: str
    cell: str
    role: Role
    params: Params
    searched: Mapping[str, Any]
    seed: int
    tasks: int


@dataclass(frozen=True)
class Cell:
    """One point of the grid: trials are compared inside it only.

    `key` holds the grid's values, `fixed` the study's, `space` what is searched, `tasks` the
    length of the sequence. `split_sha256` is the hash of the split that its trials must find
    (None: any).
    """

    id: str
    key: Mapping[str, Any]
    fixed: Mapping[str, Any]
    space: Mapping[str, BaseDistribution]
    tasks: int
    split_sha256: str | None = None

    def config(self, role: Role, searched: Mapping[str, Any], seed: int) -> TrialConfig:
        """The config of one trial.

        Raises:
            ValueError: if the values do not fit together.
        """
        own = {
            "data.evaluation": EVALUATION[role],
            "seed": seed,
            SPLIT_KEY: self.split_sha256,
        }
        return TrialConfig.from_params({**self.fixed, **self.key, **searched, **own})

    def trial(self, role: Role, searched: Mapping[str, Any], seed: int) -> PlannedTrial:
        """One trial of this cell."""
        params = self.config(role, searched, seed).to_params()
        trial = _hash(self.id, params)
        return PlannedTrial(trial, self.id, role, params, searched, seed, self.tasks)


@dataclass(frozen=True)
class Plan:
    """What a study will run. `chance` is the accuracy of guessing, where all cells agree on it."""

    spec: StudySpec
    cells: tuple[Cell, ...]
    chance: float | None

    @property
    def search_trials(self) -> int:
        """Number of search trials, over all cells, at most."""
        return sum(self.spec.trials for cell in self.cells if cell.space)

    @property
    def confirmation_trials(self) -> int:
        """Number of confirmation trials, over all cells."""
        return len(self.cells) * len(self.spec.seeds)


def make_plan(spec: StudySpec) -> Plan:
    """Spans the grid and checks every cell at the borders of what it searches.

    Raises:
        ValueError: naming the study file, the cell and the rule that is broken.
    """
    cells = []
    classes = set()
    try:
        _check_methods(spec)
        for values in itertools.product(*spec.grid.values()):
            cell = _cell(spec, dict(zip(spec.grid, values, strict=True)))
            classes |= {one.data.classes_in_use for one in _border(spec, cell)}
            _check_objective(spec, cell)
            cells.append(cell)
    except ValueError as error:
        raise ValueError(f"{spec.source}: {error}") from error
    chance = 1 / classes.pop() if len(classes) == 1 else None
    return Plan(spec, tuple(cells), chance)


def _cell(spec: StudySpec, key: dict[str, Any]) -> Cell:
    method = key.get("method.name", spec.fixed.get("method.name"))
    space = ranges.resolve(spec.search, str(method), {*key, *spec.fixed})
    cell_id = ",".join(f"{name}={_text(value)}" for name, value in key.items())
    tasks = {**spec.fixed, **key}.get("data.tasks", DataConfig.tasks)
    return Cell(cell_id, key, dict(spec.fixed), space, tasks)


def _check_methods(spec: StudySpec) -> None:
    """Refuses unknown methods, and a `search` that names a method the study does not run."""
    methods = spec.grid.get("method.name", (spec.fixed.get("method.name"),))
    for method in methods:
        catalog.method_config(str(method)) if method is not None else _no_method()
    extra = [] if isinstance(spec.search, str) else sorted(set(spec.search) - set(methods))
    if extra:
        raise ValueError(
            f"search must name methods of this study ({sorted(methods)}), but names {extra[0]!r}."
        )


def _no_method() -> None:
    raise ValueError(
        f"method.name must be in grid or fixed; methods are {list(catalog.methods())}."
    )


def _check_objective(spec: StudySpec, cell: Cell) -> None:
    """Refuses an objective that a sequence of one task does not have."""
    if spec.metric in LATER_TASKS_ONLY and cell.tasks < 2:
        raise ValueError(
            f"cell {cell.id}: data.tasks must be at least 2 for objective {spec.metric}, "
            f"but got {cell.tasks}."
        )


def _border(spec: StudySpec, cell: Cell) -> list[TrialConfig]:
    """Builds the cell's configs at the corners of its space, and for every role and seed."""
    corners = _corners({key: ranges.ends(one) for key, one in cell.space.items()})
    first = next(corners)
    asked = [(role, first, seed) for role in EVALUATION for seed in spec.seeds]
    asked += [("search", corner, spec.seeds[0]) for corner in corners]
    try:
        return [cell.config(*one) for one in asked]
    except ValueError as error:
        raise ValueError(f"cell {cell.id}: {error}") from error


def _corners(ends: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Every end of every range at least once, then `CORNERS` of their combinations at most."""
    for at in range(max((len(one) for one in ends.values()), default=1)):
        yield {key: values[at % len(values)] for key, values in ends.items()}
    for values in itertools.islice(itertools.product(*ends.values()), CORNERS):
        yield dict(zip(ends, values, strict=True))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _hash(cell_id: str, params: Params) -> str:
    hashed = {key: value for key, value in params.items() if key != SPLIT_KEY}
    canonical = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{cell_id}\n{canonical}".encode()).hexdigest()[:16]
