"""History: what the records of a ledger add up to, also while the study still runs."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from study.ledger import shapes
from study.ledger.contrasts import (
    ContrastRecord,
    LookRecord,
    contrasts_in,
    further_seeds,
    look_in,
)
from study.ledger.labels import canonical
from study.ledger.ledger import check_version, has_checksum, remedy, whole_lines
from study.ledger.records import Record
from study.ledger.study_records import (
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
from study.ledger.times import CellTimes, Pace, SessionWalls, TrialClock

T = TypeVar("T")
ENDED = ("completed", "pruned", "failed")


class Event(NamedTuple):
    """What happened to a trial, in the order of the ledger: "trial", "task" or "end"."""

    kind: str
    trial: str
    task: int = 0


class Checkpoint(NamedTuple):
    """A safe checkpoint: tasks in it, its folder within the study's, bytes of its files.

    `source` is what a message calls its record.
    """

    task: int
    path: str
    files: Mapping[str, int]
    source: str = "its record"


@dataclass
class TrialHistory:
    """A trial as far as it has come.

    `status` is running, interrupted, or that of its end. `planned` is how many tasks it sees if
    nothing ends it before; `sampler` what its search noted of it.
    """

    trial: str
    cell: str
    role: str
    params: Mapping[str, Any]
    searched: Mapping[str, Any]
    seed: int
    planned: int
    sampler: Mapping[str, Any]
    status: str = "running"
    error: str | None = None
    reason: str | None = None
    retries: int = 0
    tasks: dict[int, TaskRecord] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended for good."""
        return self.status in ENDED

    @property
    def task(self) -> int:
        """Number of tasks that are recorded."""
        return max(self.tasks, default=0)

    @property
    def curve(self) -> dict[int, Mapping[str, float]]:
        """Its metrics by tasks seen."""
        return {number: task.metrics for number, task in self.tasks.items()}

    def last(self, metric: str) -> float | None:
        """The metric after the last task it saw, None where it was not measured."""
        return self.tasks[self.task].metrics.get(metric) if self.tasks else None


class History:
    """Takes the records of a ledger one after the other; whoever asks what happened reads this.

    Of what is there twice (a task after a restore, the end of a completed trial) the first counts.
    Kinds that are not known here are passed over.

    `whole_bytes` is how much of a file the whole lines take that were read, `unchecked` how many of
    them had no checksum; `source` is what a message calls the ledger.
    """

    def __init__(self, source: str = "the ledger") -> None:
        self.source = source
        self.study: StudyRecord | None = None
        self.version = 0
        self.sessions: list[Session] = []
        self.cells: dict[str, CellRecord] = {}
        self.trials: dict[str, TrialHistory] = {}
        self.events: list[Event] = []
        self.winners: dict[str, WinnerRecord] = {}
        self.fronts: dict[str, tuple[PointRecord, ...]] = {}
        self.failed_cells: dict[str, str] = {}
        self.contrasts: tuple[ContrastRecord, ...] = ()
        self.margin = 1.0
        self.looks: dict[str, list[LookRecord]] = {}
        self.notes: set[tuple[str, str]] = set()
        self.warnings: dict[str, None] = {}
        self.models: set[str] = set()
        self.searching: set[str] = set()
        self.estimate: EstimateRecord | None = None
        self.status = "running"
        self.walls = SessionWalls()
        self.times = CellTimes()
        self.pace = Pace()
        self.last_time: float | None = None
        self.whole_bytes = 0
        self.unchecked = 0
        self._lines = 0
        self._clock = TrialClock()
        self._numbers: dict[str, dict[str, int]] = {}
        self._places: dict[str, None] = {}
        self._looks: list[LookRecord] = []

    def add(self, record: Record) -> bool:
        """Takes the next record, with its `time`; False where it says again what is known.

        Raises:
            ValueError: if it is of a newer version, lacks an entry or has one of another type, or
                is about a trial or a study that was never announced; naming its line.
        """
        self._lines += 1
        problem = shapes.problem(record)
        if problem is not None:
            raise ValueError(
                f"a record of kind {record['kind']!r} {problem}: line {self._lines} of "
                f"{self.source}. {remedy(self.source, self._lines)}"
            )
        if self.refuses(record):
            self.last_time = record["time"]
            return False
        new = self._add(record)
        self.walls.take(record)
        self.times.take(record)
        self.pace.take(record)
        self._clock.take(record)
        self.last_time = record["time"]
        return new

    def refuses(self, record: Record) -> bool:
        """Whether a record would change how a trial ended that has completed."""
        trial = self.trials.get(record["trial"]) if record["kind"] in ("end", "continued") else None
        return trial is not None and trial.status == "completed"

    def number_of(self, cell: str, setting: Mapping[str, Any]) -> int:
        """The number of a setting among those a cell confirms, counted as they first came."""
        numbers = self._numbers.setdefault(cell, {})
        return numbers.setdefault(canonical(setting), len(numbers) + 1)

    def confirmed_settings(self, cell: str) -> int:
        """How many settings of a cell have a number."""
        return len(self._numbers.get(cell, ()))

    def results(self) -> Iterator[tuple[TrialHistory, TaskRecord]]:
        """Every result once, in the order in which they came."""
        for kind, name, task in self.events:
            if kind == "task":
                yield self.trials[name], self.trials[name].tasks[task]

    def of_cell(self, cell: str, role: str) -> list[TrialHistory]:
        """The trials of a cell in a role, in the order they were launched."""
        return [trial for trial in self.trials.values() if (trial.cell, trial.role) == (cell, role)]

    def seconds_of(self, trial: str) -> float:
        """Wall seconds of a trial so far, without the time between two sessions."""
        return self._clock.seconds(trial)

    def places(self) -> list[tuple[str, str]]:
        """The paths of checkpoints, each with what a message calls its record."""
        safe = (trial.checkpoint for trial in self.trials.values())
        return [(found.path, found.source) for found in safe if found is not None]

    def without_result(self) -> list[str]:
        """The cells of which no confirmation saw all tasks, or of none the accuracy is a number."""
        confirmed = {
            trial.cell
            for trial in self.trials.values()
            if trial.role == "confirm" and trial.status == "completed"
            if trial.last("test/accuracy") is not None
        }
        return [cell for cell in self.cells if cell not in confirmed]

    def further_seeds(self) -> dict[str, tuple[int, ...]]:
        """Cell → the seeds that looks have asked for so far, beyond those that all cells have."""
        return further_seeds(self.contrasts, self._looks, self.winners)

    def forget_metrics(self, trial: str, keep: Iterable[str] = ()) -> None:
        """Lets go of what a trial measured, but for which tasks it saw and the metrics `keep`."""
        known, kept = self.trials[trial], frozenset(keep)
        for number, task in known.tasks.items():
            metrics = {key: task.metrics[key] for key in kept & {*task.metrics}}
            known.tasks[number] = TaskRecord(number, metrics, ())

    def study_records(self) -> StudyRecords:
        """All that a report needs, as it stands now.

        Raises:
            ValueError: if there was no record of a study.
        """
        if self.study is None:
            raise ValueError(f"a ledger must hold a study record, but {self.source} has none.")
        return StudyRecords(
            study=self.study,
            cells=tuple(self.cells.values()),
            trials=tuple(self._frozen(trial) for trial in self.trials.values()),
            winners=dict(self.winners),
            failed_cells=dict(self.failed_cells),
            status=self.status,
            wall_seconds=self.walls.total or None,
            fronts=dict(self.fronts),
            estimate=self.estimate,
            sessions=tuple(self.sessions),
            last_time=self.last_time,
            searching=frozenset(self.searching),
            places=tuple(self._places),
            warnings=tuple(self.warnings),
            unchecked=self.unchecked,
            contrasts=self.contrasts,
            margin=self.margin,
            looks=tuple(self._looks),
        )

    def _frozen(self, trial: TrialHistory) -> TrialRecord:
        tasks = tuple(task for _, task in sorted(trial.tasks.items()))
        seconds = self._clock.seconds(trial.trial)
        known = _common(TrialRecord, vars(trial))
        return TrialRecord(**{**known, "tasks": tasks, "seconds": seconds})

    def _add(self, record: Record) -> bool:
        kind = record["kind"]
        if kind in ("study", "resumed"):
            self._open(record)
        elif kind == "cell":
            self.cells[record["cell"]] = _cell(record)
        elif kind == "trial":
            return self._add_trial(record)
        elif kind in ("continued", "task", "end", "checkpoint"):
            return self._add_to_trial(record)
        elif kind == "winner":
            cell = record["cell"]
            self.winners[cell] = _pick(WinnerRecord, record)
            self.number_of(cell, record["searched"])
            self.failed_cells.pop(cell, None)
            self.searching.discard(cell)
        elif kind == "front":
            cell = record["cell"]
            self.fronts[cell] = tuple(
                _pick(PointRecord, {**point, "number": self.number_of(cell, point["searched"])})
                for point in record["points"]
            )
        elif kind == "failed_cell":
            self.failed_cells[record["cell"]] = record["error"]
            self.searching.discard(record["cell"])
        elif kind == "look":
            self._add_look(record)
        elif kind == "note":
            self.notes.add((record["cell"], record["text"]))
        elif kind == "warning":
            self.warnings[record["text"]] = None
        elif kind == "model":
            self.models.add(record["trial"])
        elif kind == "estimate":
            self.estimate = _pick(EstimateRecord, record)
        elif kind == "finished":
            self.status = "complete" if record["status"] == "completed" else "interrupted"
        return True

    def _open(self, record: Record) -> None:
        """Begins the first or a later session."""
        check_version(record, self.source)
        if record["kind"] == "study":
            self.study = _pick(StudyRecord, record)
        elif self.study is None:
            raise ValueError(f"a ledger must begin with its study, but {self.source} does not.")
        else:
            data = {**self.study.data, **record["data"]}
            common = _common(StudyRecord, {**record, "data": data})
            self.study = dataclasses.replace(self.study, **common)
            for trial in self.trials.values():
                # Of a session that was killed: nothing of it runs any more.
                trial.status = trial.status if trial.ended else "interrupted"
        if "contrasts" in record:
            self.contrasts = contrasts_in(record)
        self.margin = record.get("margin", self.margin)
        self.version = record["version"]
        self.status = "running"
        self.sessions.append(_pick(Session, record))

    def _add_look(self, record: Record) -> None:
        """A look at one of the contrasts that were declared."""
        if record["contrast"] not in {contrast.name for contrast in self.contrasts}:
            raise ValueError(
                f"{self.source} has a 'look' at unknown contrast {record['contrast']!r}: line "
                f"{self._lines}. {remedy(self.source, self._lines)}"
            )
        look = look_in(record)
        self.looks.setdefault(look.contrast, []).append(look)
        self._looks.append(look)

    def _add_trial(self, record: Record) -> bool:
        name = record["trial"]
        if record["role"] == "search":
            self.searching.add(record["cell"])
        self.status = "running"
        if name in self.trials:
            trial = self.trials[name]
            trial.status = trial.status if trial.ended else "running"
            return False
        known = {
            **record,
            "planned": record["tasks"],
            "sampler": record["sampler"] or {},
            "tasks": {},
        }
        self.trials[name] = _pick(TrialHistory, known)
        self.events.append(Event("trial", name))
        return True

    def _add_to_trial(self, record: Record) -> bool:
        kind, name = record["kind"], record["trial"]
        if name not in self.trials:
            raise ValueError(
                f"{self.source} has a {kind!r} of unknown trial {name!r}: line {self._lines}. "
                f"{remedy(self.source, self._lines)}"
            )
        trial = self.trials[name]
        if kind == "continued":
            trial.status = "running"
        elif kind == "checkpoint":
            trial.checkpoint = Checkpoint(
                record["task"],
                record["path"],
                record["files"],
                f"the checkpoint in line {self._lines} of {self.source}",
            )
        elif kind == "end":
            trial.status = record["status"]
            trial.error, trial.reason = record["error"], record["reason"]
            trial.retries = record["retries"] or 0
            self.events.append(Event("end", name))
        else:
            return self._add_task(trial, record)
        return True

    def _add_task(self, trial: TrialHistory, record: Record) -> bool:
        if not trial.ended:
            trial.status = "running"
        if host := record["host"]:
            device = record["device"]
            self._places[f"{host} ({device})" if device else host] = None
        task = record["task"]
        if task in trial.tasks:
            return False
        # One string for each name in the whole study: JSON makes new ones for every task.
        metrics = {
            sys.intern(key): value for key, value in record["metrics"].items() if value is not None
        }
        row = tuple(math.nan if value is None else value for value in record["accuracy_row"])
        trial.tasks[task] = TaskRecord(task, metrics, row)
        self.events.append(Event("task", trial.trial, task))
        return True


def read_history(path: Path) -> History:
    """Reads the ledger of a finished, interrupted or running study.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is broken or written by a newer version.
    """
    history = History(str(path))
    for record, line in whole_lines(path):
        history.add(record)
        history.whole_bytes += len(line)
        history.unchecked += not has_checksum(line)
    return history


def read_study(path: Path) -> StudyRecords:
    """What a report needs of a ledger; refuses what `read_history` does, and one without study."""
    return dataclasses.replace(read_history(path).study_records(), ledger_bytes=path.stat().st_size)


def history_of(records: Iterable[Record], source: str = "the ledger") -> History:
    """What records add up to; refuses what `History.add` refuses."""
    history = History(source)
    for record in records:
        history.add(record)
    return history


def _cell(record: Record) -> CellRecord:
    method = {**record["fixed"], **record["key"]}.get("method.name", "?")
    tuples = {name: tuple(record[name]) for name in ("published", "seeds")}
    return _pick(CellRecord, {**record, **tuples, "method": method})


def _pick(kind: type[T], record: Record) -> T:
    """Builds a dataclass from the record's entries of the same names; others are passed over.

    Raises:
        KeyError: if the record lacks an entry that has no default.
    """
    found = _common(kind, record)
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        if entry.default is entry.default_factory is dataclasses.MISSING:
            found[entry.name] = record[entry.name]
    return kind(**found)


def _common(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in dataclasses.fields(kind)}
    return {key: value for key, value in record.items() if key in names}
