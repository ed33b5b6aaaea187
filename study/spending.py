"""What the search of each cell has used of its budget, told by the times of records."""

from dataclasses import dataclass

from study.ledger import Record
from study.sections import Budget

HOUR = 3600.0


@dataclass(frozen=True)
class _Run:
    """A search trial that is running since a time, in unix seconds."""

    cell: str
    since: float
    gpus: float


class Spending:
    """GPU hours and wall hours of the search in each cell.

    It takes all records of a ledger in their order, so that it knows as much after a restore as
    before it. A session that was killed counts up to its last record.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._running: dict[str, _Run] = {}
        self._since: dict[str, float] = {}
        self._gpu_seconds: dict[str, float] = {}
        self._wall_seconds: dict[str, float] = {}
        self._searches: dict[str, str] = {}
        self._last = 0.0

    def take(self, record: Record) -> None:
        """Takes the next record of the ledger, with its `time`."""
        kind: str = record["kind"]
        now: float = record["time"]
        if kind in ("study", "resumed"):
            self._stop(self._last)
            self._since |= dict.fromkeys(self._wall_seconds, now)
        elif kind == "trial" and record["role"] == "search":
            cell = self._searches[record["trial"]] = record["cell"]
            self._since.setdefault(cell, now)
            self._wall_seconds.setdefault(cell, 0.0)
            self._running[record["trial"]] = _Run(cell, now, record.get("gpus", 0.0))
        elif kind == "continued" and record["trial"] in self._searches:
            cell = self._searches[record["trial"]]
            self._running[record["trial"]] = _Run(cell, now, record["gpus"])
        elif kind == "end":
            self._end(record["trial"], now)
        elif kind == "finished":
            self._stop(now)
        self._last = now

    def gpu_hours(self, cell: str, now: float) -> float:
        """Hours × GPUs of the cell's search trials up to `now` (unix seconds)."""
        live = sum(
            (now - one.since) * one.gpus for one in self._running.values() if one.cell == cell
        )
        return (self._gpu_seconds.get(cell, 0.0) + live) / HOUR

    def wall_hours(self, cell: str, now: float) -> float:
        """Hours since the cell's first search trial, without those between two sessions."""
        live = now - self._since[cell] if cell in self._since else 0.0
        return (self._wall_seconds.get(cell, 0.0) + live) / HOUR

    def reached(self, cell: str, now: float) -> bool:
        """Whether the cell's search has come to a limit; never before its first trial."""
        limits = (
            (self._budget.gpu_hours, self.gpu_hours(cell, now)),
            (self._budget.wall_hours, self.wall_hours(cell, now)),
        )
        begun = cell in self._wall_seconds
        return begun and any(limit is not None and used >= limit for limit, used in limits)

    def _end(self, trial: str, now: float) -> None:
        run = self._running.pop(trial, None)
        if run is not None:
            used = (now - run.since) * run.gpus
            self._gpu_seconds[run.cell] = self._gpu_seconds.get(run.cell, 0.0) + used

    def _stop(self, now: float) -> None:
        for trial in list(self._running):
            self._end(trial, now)
        for cell, since in self._since.items():
            self._wall_seconds[cell] += max(0.0, now - since)
        self._since = {}
