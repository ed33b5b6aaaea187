"""A study's ledger as frozen records: each thing once, also while the study still runs."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from study import ledger

VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True)
class StudyRecord:
    """What was asked, of which code and packages; `chance` is the accuracy of guessing."""

    name: str
    question: str
    spec: Mapping[str, Any]
    versions: Mapping[str, str]
    commit: str | None
    host: str
    chance: float | None


@dataclass(frozen=True)
class CellRecord:
    """One cell of the grid; `method` and `tasks` hold for all its trials."""

    cell: str
    key: Mapping[str, Any]
    fixed: Mapping[str, Any]
    search: Mapping[str, str]
    method: str
    tasks: int | None


@dataclass(frozen=True)
class TaskRecord:
    """What was measured after `task` tasks; `accuracy_row` is the accuracy on tasks 1..task.

    Metrics without a finite value are left out.
    """

    task: int
    metrics: Mapping[str, float]
    accuracy_row: tuple[float, ...]


@dataclass(frozen=True)
class TrialRecord:
    """One trial; `status` is that of its end, or "running"; `seconds` is its wall time so far."""

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

    def series(self, metric: str) -> dict[int, float]:
        """The metric by number of tasks seen, where it was measured."""
        return {one.task: one.metrics[metric] for one in self.tasks if metric in one.metrics}

    def final(self, metric: str) -> float | None:
        """The metric after the last task, None where it was not measured."""
        return self.tasks[-1].metrics.get(metric) if self.tasks else None

    @property
    def compute_seconds(self) -> float:
        """Seconds in designing, training, absorbing and evaluating, over all tasks."""
        return sum(
            value
            for one in self.tasks
            for name, value in one.metrics.items()
            if name.startswith("time/") and name.endswith("_seconds")
        )


@dataclass(frozen=True)
class WinnerRecord:
    """The setting a cell's search chose, and what it reached in the search."""

    cell: str
    trial: str
    searched: Mapping[str, Any]
    value: float | None
    objective: str


@dataclass(frozen=True)
class StudyRecords:
    """All that a report needs.

    `status` is "complete", "interrupted" or "running"; `failed_cells` tells of cells whose search
    found no winner why.
    """

    study: StudyRecord
    cells: tuple[CellRecord, ...]
    trials: tuple[TrialRecord, ...]
    winners: Mapping[str, WinnerRecord]
    failed_cells: Mapping[str, str]
    status: str
    wall_seconds: float | None

    def searches(self, cell: str) -> tuple[TrialRecord, ...]:
        """The cell's search trials, in the order they were launched."""
        return tuple(one for one in self.trials if (one.cell, one.role) == (cell, "search"))

    def confirmations(self, cell: str) -> tuple[TrialRecord, ...]:
        """The cell's confirmation trials of its present winner, by seed.

        A study that was extended may have confirmed an earlier winner too: those are left out.
        """
        winner = self.winners.get(cell)
        found = (one for one in self.trials if (one.cell, one.role) == (cell, "confirm"))
        chosen = {} if winner is None else winner.searched
        fitting = (
            one for one in found if all(one.params.get(key) == chosen[key] for key in chosen)
        )
        return tuple(sorted(fitting, key=lambda one: one.seed))


def read_ledger(path: Path) -> StudyRecords:
    """Reads the records of a finished, interrupted or running study.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is broken or written by a newer version.
    """
    return from_records(ledger.read_ledger(path), source=str(path))


def from_records(records: Iterable[ledger.Record], source: str = "the ledger") -> StudyRecords:
    """Builds the records; of what is there twice (after a restore), the last one counts.

    Raises:
        ValueError: if the study is missing or newer, or a record names an unknown trial.
    """
    book = _Book(source=source)
    for record in records:
        book.add(record)
    return book.close()


@dataclass
class _Book:
    """What has been read so far. Kinds that are not known here are passed over."""

    source: str
    study: StudyRecord | None = None
    cells: dict[str, ledger.Record] = field(default_factory=dict)
    trials: dict[str, TrialRecord] = field(default_factory=dict)
    tasks: dict[str, dict[int, TaskRecord]] = field(default_factory=dict)
    launched: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, dict[float, float]] = field(default_factory=dict)
    winners: dict[str, WinnerRecord] = field(default_factory=dict)
    failed_cells: dict[str, str] = field(default_factory=dict)
    status: str = "running"
    walls: list[float] = field(default_factory=list)

    def add(self, record: ledger.Record) -> None:
        kind = record["kind"]
        if kind == "study":
            self._add_study(record)
        elif kind == "cell":
            self.cells[record["cell"]] = record
        elif kind == "trial":
            self._add_trial(record)
        elif kind == "winner":
            self.winners[record["cell"]] = _pick(WinnerRecord, record)
            self.failed_cells.pop(record["cell"], None)
        elif kind == "failed_cell":
            self.failed_cells[record["cell"]] = record["error"]
        elif kind == "finished":
            completed = record["status"] == "completed"
            self.status = "complete" if completed else "interrupted"
            self.walls.append(record["wall_seconds"] or 0.0)
        elif kind in ("task", "end"):
            self._add_to_trial(record)

    def _add_study(self, record: ledger.Record) -> None:
        if record["version"] > VERSION:
            raise ValueError(
                f"a ledger of version {VERSION} or older can be read, but {self.source} has "
                f"version {record['version']}: it was written by a newer release."
            )
        self.study = _pick(StudyRecord, record)
        self.status = "running"

    def _add_trial(self, record: ledger.Record) -> None:
        name = record["trial"]
        self.trials[name] = _pick(TrialRecord, record)
        self.tasks.setdefault(name, {})
        self.launched[name] = record["time"]
        self.status = "running"

    def _add_to_trial(self, record: ledger.Record) -> None:
        name = record["trial"]
        if name not in self.trials:
            raise ValueError(f"{self.source} has a {record['kind']!r} of unknown trial {name!r}.")
        launched = self.launched[name]
        self.seconds.setdefault(name, {})[launched] = record["time"] - launched
        if record["kind"] == "end":
            ended = {"status": record["status"], "error": record.get("error")}
            self.trials[name] = dataclasses.replace(self.trials[name], **ended)
            return
        metrics = {key: one for key, one in record["metrics"].items() if one is not None}
        row = tuple(float("nan") if one is None else one for one in record["accuracy_row"])
        self.tasks[name][record["task"]] = TaskRecord(record["task"], metrics, row)

    def close(self) -> StudyRecords:
        if self.study is None:
            raise ValueError(f"a ledger must hold a study record, but {self.source} has none.")
        trials = tuple(
            dataclasses.replace(
                trial,
                tasks=tuple(one for _, one in sorted(self.tasks[name].items())),
                seconds=sum(self.seconds.get(name, {}).values()),
            )
            for name, trial in self.trials.items()
        )
        params = {trial.cell: trial.params for trial in trials}
        cells = tuple(_cell(one, params.get(name, {})) for name, one in self.cells.items())
        wall = sum(self.walls) if self.walls else None
        found = (self.winners, self.failed_cells)
        return StudyRecords(self.study, cells, trials, *found, self.status, wall)


def _cell(record: ledger.Record, params: Mapping[str, Any]) -> CellRecord:
    known = {**record["fixed"], **record["key"], **params}
    method, tasks = known.get("method.name", "?"), known.get("data.tasks")
    return CellRecord(
        record["cell"], record["key"], record["fixed"], record["search"], method, tasks
    )


def _pick(kind: type[T], record: ledger.Record) -> T:
    """Builds a dataclass from the record's entries of the same names; others are passed over."""
    names = {one.name for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in record.items() if key in names})
