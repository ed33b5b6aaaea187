"""What a study consists of, as frozen records: each thing once."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from study.ledger.contrasts import ContrastRecord, LookRecord, further_seeds
from study.ledger.times import compute_seconds


@dataclass(frozen=True)
class Session:
    """One run of the driver: a study that was resumed has several.

    `machine` is that of the driver, see `provenance.machine`; empty where the ledger is older.
    """

    commit: str | None
    host: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyRecord:
    """What was asked, of which code and packages; `chance` is the accuracy of guessing.

    Of a study that was resumed, these are the values of the last session. `data` holds the hash
    of each data set's split. With `once` it is of one configuration, without a search.
    """

    name: str
    question: str
    spec: Mapping[str, Any]
    versions: Mapping[str, str]
    commit: str | None
    host: str
    chance: float | None
    data: Mapping[str, str] = field(default_factory=dict)
    once: bool = False

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the study's objectives, the first decides."""
        return tuple(self.spec.get("objective") or ())

    @property
    def signs(self) -> tuple[int, ...]:
        """For each objective: 1 where more is better, −1 where less is."""
        modes = self.spec.get("objective") or {}
        return tuple(-1 if mode == "min" else 1 for mode in modes.values())


@dataclass(frozen=True)
class CellRecord:
    """One cell of the grid; `method` and `tasks` hold for all its confirmations.

    For `search` see `records.cell`. Its searches see `search_tasks` tasks; its settings are
    confirmed on `seeds`. `tuned_in` is the cell whose search found its settings, where that is
    another one. `published` are results for its method, data and tasks, with `departures` of the
    cell from how they were measured.
    """

    cell: str
    key: Mapping[str, Any]
    fixed: Mapping[str, Any]
    search: Mapping[str, Mapping[str, Any]]
    method: str
    tasks: int | None
    search_tasks: int | None = None
    tuned_in: str | None = None
    seeds: tuple[int, ...] = ()
    published: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class TaskRecord:
    """What was measured after `task` tasks; `accuracy_row` is the accuracy on tasks 1..task.

    It is empty where a search trial was not evaluated.

    Metrics without a finite value are left out.
    """

    task: int
    metrics: Mapping[str, float]
    accuracy_row: tuple[float, ...]

    @property
    def compute_seconds(self) -> float:
        """Seconds in designing, training, absorbing and evaluating."""
        return compute_seconds(self.metrics)


@dataclass(frozen=True)
class TrialRecord:
    """One trial; `status` is that of its end, or "running".

    `seconds` is its wall time so far, without the time between two sessions. `planned` is the
    number of tasks it sees if nothing ends it before, None where the ledger is older than that.
    A failed trial has a `reason`: diverged, out_of_memory, error or died. `retries` counts how
    often it was started again.
    """

    trial: str
    cell: str
    role: str
    params: Mapping[str, Any]
    searched: Mapping[str, Any]
    seed: int
    status: str = "running"
    error: str | None = None
    tasks: tuple[TaskRecord, ...] = ()
    seconds: float = 0.0
    planned: int | None = None
    reason: str | None = None
    retries: int = 0

    def series(self, metric: str) -> dict[int, float]:
        """The metric by number of tasks seen, where it was measured."""
        return {task.task: task.metrics[metric] for task in self.tasks if metric in task.metrics}

    def final(self, metric: str) -> float | None:
        """The metric after the last task it saw, None where it was not measured."""
        return self.tasks[-1].metrics.get(metric) if self.tasks else None

    def has(self, setting: Mapping[str, Any]) -> bool:
        """Whether it ran with this setting."""
        return all(key in self.params and self.params[key] == setting[key] for key in setting)

    @property
    def compute_seconds(self) -> float:
        """Seconds in designing, training, absorbing and evaluating, over all tasks."""
        return sum(task.compute_seconds for task in self.tasks)


@dataclass(frozen=True)
class WinnerRecord:
    """The setting a cell's search chose, and what it reached in the search."""

    cell: str
    trial: str
    searched: Mapping[str, Any]
    value: float | None
    objective: str


@dataclass(frozen=True)
class PointRecord:
    """A setting on a cell's Pareto front: `values` are its objectives in the search.

    `number` is that of its tracked runs: settings are counted as they first came on the front.
    """

    number: int
    trial: str
    searched: Mapping[str, Any]
    values: Mapping[str, float | None]
    confirmations: tuple[TrialRecord, ...] = ()


@dataclass(frozen=True)
class EstimateRecord:
    """What a study was estimated to cost before it ran: hours, bytes; None where not known.

    `trial_hours` are summed over the trials; `device_bytes` is the device memory of one trial.
    `source` says what the estimate was made from.
    """

    trials: float | None = None
    trial_hours: float | None = None
    gpu_hours: float | None = None
    wall_hours: float | None = None
    storage_bytes: float | None = None
    device_bytes: float | None = None
    source: str = "not known"


@dataclass(frozen=True)
class StudyRecords:
    """All that a report needs.

    `status` is "complete", "interrupted" or "running"; `failed_cells` tells of cells whose search
    found no winner why. `wall_seconds` is summed over the sessions that ended. `ledger_bytes` is
    the size of the file it was read from, `last_time` the moment of its last record (unix
    seconds). In the cells of `searching` a search goes on, also where there was a winner before.
    `places` are the hosts that trials ran on, with their devices, as far as the ledger tells;
    `warnings` are what a reader should know of the data, `unchecked` is how many of the ledger's
    lines have no checksum. `contrasts` are what was declared before the first confirmation, one
    family, `margin` the difference that is not to matter, in points for shares; `looks` are all
    looks at them, in their order.
    """

    study: StudyRecord
    cells: tuple[CellRecord, ...]
    trials: tuple[TrialRecord, ...]
    winners: Mapping[str, WinnerRecord]
    failed_cells: Mapping[str, str]
    status: str
    wall_seconds: float | None
    fronts: Mapping[str, tuple[PointRecord, ...]] = field(default_factory=dict)
    estimate: EstimateRecord | None = None
    sessions: tuple[Session, ...] = ()
    ledger_bytes: int = 0
    last_time: float | None = None
    searching: frozenset[str] = frozenset()
    places: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unchecked: int = 0
    contrasts: tuple[ContrastRecord, ...] = ()
    margin: float = 1.0
    looks: tuple[LookRecord, ...] = ()

    @property
    def further_seeds(self) -> Mapping[str, tuple[int, ...]]:
        """Cell → the seeds that looks have asked for, beyond those that all cells have."""
        return further_seeds(self.contrasts, self.looks, self.winners)

    def searches(self, cell: str) -> tuple[TrialRecord, ...]:
        """The cell's search trials, in the order they were launched."""
        return tuple(trial for trial in self.trials if (trial.cell, trial.role) == (cell, "search"))

    def confirmations(self, cell: str) -> tuple[TrialRecord, ...]:
        """The cell's confirmation trials of its present winner, by seed.

        A study that was extended may have confirmed an earlier winner too: those are left out, as
        are those of other points of a Pareto front.
        """
        winner = self.winners.get(cell)
        return self._confirmed(cell, {} if winner is None else winner.searched)

    def points(self, cell: str) -> tuple[PointRecord, ...]:
        """The cell's Pareto front, best in the first objective first, with its confirmations.

        Empty for one objective. A cell that takes its settings from another has that one's front.
        """
        source = next((record.tuned_in for record in self.cells if record.cell == cell), None)
        front = self.fronts.get(cell) or self.fronts.get(source or "", ())
        return tuple(
            dataclasses.replace(point, confirmations=self._confirmed(cell, point.searched))
            for point in front
        )

    def _confirmed(self, cell: str, setting: Mapping[str, Any]) -> tuple[TrialRecord, ...]:
        trials = (trial for trial in self.trials if (trial.cell, trial.role) == (cell, "confirm"))
        fitting = (trial for trial in trials if trial.has(setting))
        return tuple(sorted(fitting, key=lambda trial: trial.seed))
