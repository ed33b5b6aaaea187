"""Reads a study's ledger into frozen records, also while the study still runs."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from study import ledger
from study.actual_cost import compute_seconds
from study.analysis.entities import (
    CellRecord,
    EstimateRecord,
    PointRecord,
    Session,
    StudyRecord,
    StudyRecords,
    TaskRecord,
    TrialRecord,
    WinnerRecord,
)
from study.session_walls import SessionWalls

T = TypeVar("T")


def read_ledger(path: Path) -> StudyRecords:
    """Reads the records of a finished, interrupted or running study.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is broken or written by a newer version.
    """
    found = from_records(ledger.iterate_ledger(path), source=str(path))
    return dataclasses.replace(found, ledger_bytes=path.stat().st_size)


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
    fronts: dict[str, tuple[PointRecord, ...]] = field(default_factory=dict)
    numbers: dict[str, dict[str, int]] = field(default_factory=dict)
    failed_cells: dict[str, str] = field(default_factory=dict)
    estimate: EstimateRecord | None = None
    status: str = "running"
    sessions: list[Session] = field(default_factory=list)
    walls: SessionWalls = field(default_factory=SessionWalls)
    last_time: float | None = None
    searching: set[str] = field(default_factory=set)
    places: dict[str, None] = field(default_factory=dict)

    def add(self, record: ledger.Record) -> None:
        kind = record["kind"]
        if kind in ("study", "resumed"):
            self._open(record)
        elif kind == "cell":
            self.cells[record["cell"]] = record
        elif kind == "trial":
            self._add_trial(record)
        elif kind == "winner":
            self.winners[record["cell"]] = _pick(WinnerRecord, record)
            self._number(record["cell"], record["searched"])
            self.failed_cells.pop(record["cell"], None)
            self.searching.discard(record["cell"])
        elif kind == "front":
            self._add_front(record)
        elif kind == "failed_cell":
            self.failed_cells[record["cell"]] = record["error"]
            self.searching.discard(record["cell"])
        elif kind == "estimate":
            self.estimate = _pick(EstimateRecord, record)
        elif kind == "finished":
            completed = record["status"] == "completed"
            self.status = "complete" if completed else "interrupted"
        elif kind in ("continued", "task", "end"):
            self._add_to_trial(record)
        self.walls.take(record)
        self.last_time = record["time"]

    def _open(self, record: ledger.Record) -> None:
        """Begins the first or a later session."""
        ledger.check_version(record, self.source)
        if record["kind"] == "study":
            self.study = _pick(StudyRecord, record)
        elif self.study is None:
            raise ValueError(f"a ledger must begin with its study, but {self.source} does not.")
        else:
            self.study = dataclasses.replace(self.study, **_common(StudyRecord, record))
        self.status = "running"
        self.sessions.append(_pick(Session, record))
        # A trial that goes on did nothing between the sessions.
        self.launched.clear()

    def _add_trial(self, record: ledger.Record) -> None:
        name = record["trial"]
        known = {key: one for key, one in record.items() if key != "tasks"}
        self.trials[name] = dataclasses.replace(
            _pick(TrialRecord, known), planned=record.get("tasks")
        )
        self.tasks.setdefault(name, {})
        if record["role"] == "search":
            self.searching.add(record["cell"])
        self.launched[name] = record["time"]
        self.status = "running"

    def _add_to_trial(self, record: ledger.Record) -> None:
        name = record["trial"]
        if record["kind"] == "continued":
            self.launched[name] = record["time"]
            return
        if name not in self.trials:
            raise ValueError(f"{self.source} has a {record['kind']!r} of unknown trial {name!r}.")
        if name not in self.launched:
            self.launched[name] = record["time"] - _compute(record)
        launched = self.launched[name]
        self.seconds.setdefault(name, {})[launched] = record["time"] - launched
        trial = self.trials[name]
        if record["kind"] == "end":
            self.trials[name] = dataclasses.replace(
                trial,
                status=record["status"],
                error=record.get("error"),
                reason=record.get("reason"),
                retries=record.get("retries") or 0,
            )
            return
        if trial.status == "interrupted":
            self.trials[name] = dataclasses.replace(trial, status="running")
        # One string for each name in the whole study: JSON makes new ones for every task.
        if record.get("host"):
            device = record.get("device")
            self.places[f"{record['host']} ({device})" if device else record["host"]] = None
        metrics = {
            sys.intern(key): one for key, one in record["metrics"].items() if one is not None
        }
        row = tuple(float("nan") if one is None else one for one in record["accuracy_row"])
        self.tasks[name][record["task"]] = TaskRecord(record["task"], metrics, row)

    def _add_front(self, record: ledger.Record) -> None:
        cell = record["cell"]
        self.fronts[cell] = tuple(
            PointRecord(
                self._number(cell, one["searched"]), one["trial"], one["searched"], one["values"]
            )
            for one in record["points"]
        )

    def _number(self, cell: str, setting: Mapping[str, Any]) -> int:
        """Counts the settings that a cell confirms, in the order in which they come."""
        numbers = self.numbers.setdefault(cell, {})
        return numbers.setdefault(json.dumps(setting, sort_keys=True), len(numbers) + 1)

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
        return StudyRecords(
            study=self.study,
            cells=tuple(
                _cell(one, params.get(name, {}), self.study.spec)
                for name, one in self.cells.items()
            ),
            trials=trials,
            winners=self.winners,
            failed_cells=self.failed_cells,
            status=self.status,
            wall_seconds=self.walls.total or None,
            fronts=self.fronts,
            estimate=self.estimate,
            sessions=tuple(self.sessions),
            last_time=self.last_time,
            searching=frozenset(self.searching),
            places=tuple(self.places),
        )


def _compute(record: ledger.Record) -> float:
    """Seconds of the first task a trial reports when it goes on: its start is not recorded."""
    if record["kind"] != "task":
        return 0.0
    return compute_seconds(record["metrics"])


def _cell(record: ledger.Record, params: Mapping[str, Any], spec: Mapping[str, Any]) -> CellRecord:
    known = {**record["fixed"], **record["key"], **params}
    tasks = record.get("tasks", known.get("data.tasks"))
    return CellRecord(
        cell=record["cell"],
        key=record["key"],
        fixed=record["fixed"],
        search=record["search"],
        method=known.get("method.name", "?"),
        tasks=tasks,
        search_tasks=record.get("search_tasks", tasks),
        tuned_in=record.get("tuned_in"),
        published=tuple(record.get("published") or ()),
        seeds=tuple(record.get("seeds") or spec.get("seeds") or ()),
    )


def _pick(kind: type[T], record: ledger.Record) -> T:
    """Builds a dataclass from the record's entries of the same names; others are passed over.

    Raises:
        ValueError: if the record lacks an entry that has no default.
    """
    entries = _common(kind, record)
    try:
        return kind(**entries)
    except TypeError as error:
        lacking = f"{error}".rpartition(": ")[2]
        raise ValueError(
            f"a record of kind {record['kind']!r} must be whole, but it lacks {lacking}."
        ) from error


def _common(kind: type, record: ledger.Record) -> dict[str, Any]:
    names = {one.name for one in dataclasses.fields(kind)}
    return {key: value for key, value in record.items() if key in names}
