"""From a spec to cells, and from a cell to its search and confirmation trials."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from optuna.distributions import BaseDistribution

from study import conditions, ranges, rules, samplers, warm_start
from study.conditions import Conditions
from study.spec import LATER_TASKS_ONLY, StudySpec
from trainables import catalog
from trainables.config import DataConfig, Params, TrialConfig

Role: TypeAlias = Literal["search", "confirm"]
WHOLE_STREAM = "whole_stream"
# Keys of a cell that are not of a trial.
OF_SEARCH = "search."
PROTOCOL, TUNED_ON = "search.protocol", "search.tuned_on"
EVALUATION: Mapping[Role, str] = {"search": "validation", "confirm": "test"}
SPLIT_KEY = "data.split_sha256"


@dataclass(frozen=True)
class PlannedTrial:
    """One training run: all that it depends on is in `params` (flat, every key present).

    `id` is a stable hash of cell and params, so that it is the same in every run of a study. The
    hash of the split is left out: a driver without the files does not know it. `tasks` is the
    number of tasks that it sees: fewer than the stream has where the protocol looks at the first
    ones only.
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

    `key` holds the grid's values (and, under "search.", which protocol a cell of a comparison
    follows, or where a setting comes from), `fixed` the study's, `space` what is searched, `tasks`
    the length of the sequence. Its searches see `search_tasks` tasks with `search_seed`, its
    confirmations all tasks with each of `seeds`. `tuned_in` is the id of the cell whose search
    finds the settings, where that is another one. `conditions` are those of searched keys that
    are not in every setting; `split_sha256` is the hash of the split that its trials must find
    (None: any).
    """

    id: str
    key: Mapping[str, Any]
    fixed: Mapping[str, Any]
    space: Mapping[str, BaseDistribution]
    tasks: int
    search_tasks: int
    search_seed: int
    seeds: tuple[int, ...]
    tuned_in: str | None = None
    split_sha256: str | None = None
    conditions: Conditions = field(default_factory=dict)

    @property
    def searches(self) -> bool:
        """Whether search trials run in this cell."""
        return bool(self.space) and self.tuned_in is None

    def corners(self) -> Iterator[dict[str, Any]]:
        """Settings at the border of the space: every end of every range at least once."""
        return conditions.corners(self.space, self.conditions)

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
        key = {name: one for name, one in self.key.items() if not name.startswith(OF_SEARCH)}
        return TrialConfig.from_params({**self.fixed, **key, **searched, **own})

    def trial(self, role: Role, searched: Mapping[str, Any], seed: int) -> PlannedTrial:
        """One trial of this cell."""
        params = self.config(role, searched, seed).to_params()
        tasks = self.search_tasks if role == "search" else self.tasks
        trial = _hash(self.id if tasks == self.tasks else f"{self.id}\n{tasks} tasks", params)
        return PlannedTrial(trial, self.id, role, params, searched, seed, tasks)


@dataclass(frozen=True)
class Plan:
    """What a study will run. `chance` is the accuracy of guessing, where all cells agree on it."""

    spec: StudySpec
    cells: tuple[Cell, ...]
    chance: float | None

    @property
    def search_trials(self) -> int:
        """Number of search trials, over all cells, at most."""
        return sum(self.spec.trials for cell in self.cells if cell.searches)

    @property
    def confirmation_trials(self) -> int:
        """Number of confirmation trials, over all cells, for one setting each."""
        return sum(len(cell.seeds) for cell in self.cells)


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
            for cell in _cells(spec, dict(zip(spec.grid, values, strict=True))):
                classes |= {one.data.classes_in_use for one in _border(cell)}
                _check_objective(spec, cell)
                if cell.searches:
                    where = f"cell {cell.id}"
                    samplers.check(where, spec.sampler, spec.trials, cell.space, cell.conditions)
                cells.append(cell)
        _check_once(cells)
        warm_start.check(spec, [cell for cell in cells if cell.searches])
    except ValueError as error:
        raise ValueError(f"{spec.source}: {error}") from error
    chance = 1 / classes.pop() if len(classes) == 1 else None
    return Plan(spec, tuple(cells), chance)


def _cells(spec: StudySpec, key: dict[str, Any]) -> list[Cell]:
    """The cell of a point of the grid, and those that the protocol adds to it."""
    search = spec.search
    own = {PROTOCOL: search.protocol} if search.compare else {}
    cell = _cell(spec, {**key, **own}, search.protocol)
    found = [cell]
    for other in search.confirm_on:
        moved = {**key, **other}
        if moved != key:
            before = {**spec.fixed, **key}
            from_where = ",".join(f"{name}={_text(before.get(name))}" for name in other)
            there = _cell(spec, {**moved, **own, TUNED_ON: from_where}, search.protocol)
            found.append(
                replace(there, space=cell.space, conditions=cell.conditions, tuned_in=cell.id)
            )
    if search.compare:
        # A transfer to other class orders alone is what whole_stream would be, but for its seeds.
        if search.protocol != "transfer":
            found.append(_cell(spec, {**key, PROTOCOL: WHOLE_STREAM}, WHOLE_STREAM))
        found += [
            _cell(spec, {**key, **other, PROTOCOL: WHOLE_STREAM}, WHOLE_STREAM)
            for other in search.confirm_on
            if {**key, **other} != key
        ]
    return found


def _cell(spec: StudySpec, key: dict[str, Any], protocol: str) -> Cell:
    method = key.get("method.name", spec.fixed.get("method.name"))
    space = ranges.resolve(spec.search.space, str(method), {*key, *spec.fixed})
    tasks = {**spec.fixed, **key}.get("data.tasks", DataConfig.tasks)
    first = spec.search.first_tasks
    seen = tasks
    if protocol == "first_k_tasks" and first is not None and rules.is_number(tasks):
        seen = first
        if first >= tasks:
            cell = ",".join(f"{name}={_text(value)}" for name, value in key.items())
            raise ValueError(
                f"cell {cell}: search.first_tasks must be below data.tasks ({tasks}), "
                f"but got {first}."
            )
    transfers = spec.search.protocol == "transfer"
    return Cell(
        id=",".join(f"{name}={_text(value)}" for name, value in key.items()),
        key=key,
        fixed=dict(spec.fixed),
        space=space,
        tasks=tasks,
        search_tasks=seen,
        search_seed=spec.seeds[0],
        seeds=spec.seeds[1:] if transfers else spec.seeds,
        conditions=conditions.resolve(spec.search.space, str(method), space),
    )


def _check_once(cells: Sequence[Cell]) -> None:
    """Refuses two ways to the same cell."""
    ids = [cell.id for cell in cells]
    twice = [one for at, one in enumerate(ids) if one in ids[:at]]
    if twice:
        raise ValueError(
            f"search.confirm_on must not lead to a cell that is there already: {twice[0]}."
        )


def _check_methods(spec: StudySpec) -> None:
    """Refuses unknown methods, and a `search` that names a method the study does not run."""
    methods = spec.grid.get("method.name", (spec.fixed.get("method.name"),))
    for method in methods:
        catalog.method_config(str(method)) if method is not None else _no_method()
    space = spec.search.space
    extra = [] if isinstance(space, str) else sorted(set(space) - set(methods))
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
    later = [metric for metric in spec.objective if metric in LATER_TASKS_ONLY]
    if later and cell.search_tasks < 2:
        key = "data.tasks" if cell.tasks < 2 else "search.first_tasks"
        raise ValueError(
            f"cell {cell.id}: {key} must be at least 2 for objective {later[0]}, "
            f"but got {cell.search_tasks}."
        )


def _border(cell: Cell) -> list[TrialConfig]:
    """Builds the cell's configs at the corners of its space, and for every role and seed."""
    corners = cell.corners()
    first = next(corners)
    seeds = (cell.search_seed, *cell.seeds)
    asked = [(role, first, seed) for role in EVALUATION for seed in seeds]
    asked += [("search", corner, cell.search_seed) for corner in corners]
    try:
        return [cell.config(*one) for one in asked]
    except ValueError as error:
        raise ValueError(f"cell {cell.id}: {error}") from error


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _hash(cell_id: str, params: Params) -> str:
    hashed = {key: value for key, value in params.items() if key != SPLIT_KEY}
    canonical = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{cell_id}\n{canonical}".encode()).hexdigest()[:16]
