"""Seconds of sessions, trials and searches, told by the times of records."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from study.ledger.records import Record


def compute_seconds(metrics: Mapping[str, Any]) -> float:
    """Seconds of a task in designing, training, absorbing and evaluating."""
    return sum(
        value or 0.0
        for key, value in metrics.items()
        if key.startswith("time/") and key.endswith("_seconds")
    )


class SessionWalls:
    """Wall seconds of each session, by the time of its first record, so that none counts twice."""

    def __init__(self) -> None:
        self._walls: dict[float, float] = {}
        self._began: float | None = None
        self._latest = 0.0

    def take(self, record: Record) -> None:
        """Takes the next record of a ledger."""
        if record["kind"] in ("study", "resumed"):
            if self._began is not None and self._began != record["time"]:
                # Killed: without a record of its own end, the last one it wrote stands for that.
                self._walls.setdefault(self._began, self._latest - self._began)
            self._began = record["time"]
        elif record["kind"] == "finished" and self._began is not None:
            self._walls[self._began] = record["wall_seconds"] or 0.0
            self._began = None
        self._latest = record["time"]

    @property
    def total(self) -> float:
        """Seconds of all sessions that ended."""
        return sum(self._walls.values())


class TrialClock:
    """Wall seconds of each trial, from launch to end, without the time between two sessions."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._since: dict[str, float] = {}

    def take(self, record: Record) -> None:
        """Takes the next record of a ledger."""
        kind, now = record["kind"], record["time"]
        if kind == "resumed":
            self._since.clear()
        elif kind in ("trial", "continued"):
            self._since[record["trial"]] = now
        elif kind in ("task", "end"):
            trial = record["trial"]
            if trial in self._since:
                self._seconds[trial] += now - self._since[trial]
            elif kind == "task":
                # The first sign of a trial that went on in this session.
                self._seconds[trial] += compute_seconds(record["metrics"])
            self._since[trial] = now

    def seconds(self, trial: str) -> float:
        """Seconds of a trial so far."""
        return self._seconds.get(trial, 0.0)


class Pace:
    """Wall seconds of tasks by cell and role, and which trials run since when.

    `peak` is how many have run at a time in this session.
    """

    def __init__(self) -> None:
        self.peak = 0
        self.running: dict[str, float] = {}
        self._of: dict[str, tuple[str, str]] = {}
        self._tasks: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(dict)

    def take(self, record: Record) -> None:
        """Takes the next record of a ledger."""
        kind, now = record["kind"], record["time"]
        if kind in ("study", "resumed"):
            self.running.clear()
            self.peak = 0
        elif kind in ("trial", "continued"):
            if kind == "trial":
                self._of[record["trial"]] = record["cell"], record["role"]
            self.running[record["trial"]] = now
            self.peak = max(self.peak, len(self.running))
        elif kind == "task":
            since = self.running.get(record["trial"])
            seconds = compute_seconds(record["metrics"]) if since is None else now - since
            self.running[record["trial"]] = now
            sums = self._tasks[self._of[record["trial"]]].setdefault(record["task"], [0.0] * 3)
            for at, part in enumerate((1.0, seconds, seconds**2)):
                sums[at] += part
        elif kind == "end":
            self.running.pop(record["trial"], None)

    def tasks(self, cell: str, role: str) -> dict[int, tuple[float, float]]:
        """Mean seconds of each task that was measured, and their standard deviation."""
        found = {}
        for task, (count, total, squares) in self._tasks.get((cell, role), {}).items():
            mean = total / count
            found[task] = mean, max(0.0, squares / count - mean**2) ** 0.5
        return found


class _Run(NamedTuple):
    """A search trial that is running since a time, in unix seconds."""

    cell: str
    since: float
    gpus: float


class CellTimes:
    """Seconds and GPU seconds of the search in each cell.

    A session that was killed counts up to its last record.
    """

    def __init__(self) -> None:
        self._running: dict[str, _Run] = {}
        self._since: dict[str, float] = {}
        self._gpu_seconds: dict[str, float] = defaultdict(float)
        self._wall_seconds: dict[str, float] = {}
        self._searches: dict[str, str] = {}
        self._last = 0.0

    def take(self, record: Record) -> None:
        """Takes the next record of a ledger."""
        kind: str = record["kind"]
        now: float = record["time"]
        if kind in ("study", "resumed"):
            self._stop(self._last)
            self._since |= dict.fromkeys(self._wall_seconds, now)
        elif kind == "trial" and record["role"] == "search":
            cell = self._searches[record["trial"]] = record["cell"]
            self._since.setdefault(cell, now)
            self._wall_seconds.setdefault(cell, 0.0)
            self._running[record["trial"]] = _Run(cell, now, record["gpus"])
        elif kind == "continued" and record["trial"] in self._searches:
            cell = self._searches[record["trial"]]
            self._running[record["trial"]] = _Run(cell, now, record["gpus"])
        elif kind == "end":
            self._end(record["trial"], now)
        elif kind == "finished":
            self._stop(now)
        self._last = now

    def begun(self, cell: str) -> bool:
        """Whether the cell has had a search trial."""
        return cell in self._wall_seconds

    def gpu_seconds(self, cell: str, now: float) -> float:
        """Seconds × GPUs of the cell's search trials up to `now` (unix seconds)."""
        live = sum(
            (now - run.since) * run.gpus for run in self._running.values() if run.cell == cell
        )
        return self._gpu_seconds.get(cell, 0.0) + live

    def wall_seconds(self, cell: str, now: float) -> float:
        """Seconds since the cell's first search trial, without those between two sessions."""
        live = now - self._since[cell] if cell in self._since else 0.0
        return self._wall_seconds.get(cell, 0.0) + live

    def _end(self, trial: str, now: float) -> None:
        run = self._running.pop(trial, None)
        if run is not None:
            self._gpu_seconds[run.cell] += (now - run.since) * run.gpus

    def _stop(self, now: float) -> None:
        for trial in list(self._running):
            self._end(trial, now)
        for cell, since in self._since.items():
            self._wall_seconds[cell] += max(0.0, now - since)
        self._since = {}
