"""MetricQueue: points kept back until several go in one call, and again where they are refused."""

from collections.abc import Callable
from typing import Any

METRICS_PER_CALL = 1000


class MetricQueue:
    """Points by run, in the order in which they came.

    Args:
        send: writes points (at most METRICS_PER_CALL) to a run; an error of it is passed on.
    """

    def __init__(self, send: Callable[[str, list[Any]], None]) -> None:
        self._send = send
        self._points: dict[str, list[Any]] = {}
        self._failing: str | None = None
        # Runs whose points were refused: kept for another try, or given up for good.
        self._held: set[str] = set()
        self._lost: set[str] = set()
        self._given_up: set[int] = set()

    def begin(self) -> None:
        """Begins a write: what it fails at is not what an earlier one failed at."""
        self._failing = None

    def add(self, run: str, points: list[Any]) -> None:
        """Adds points of a run; sends earlier ones if there would be too many for a call."""
        # First, so that points are not there twice where this is tried again.
        if len(self._points.get(run, ())) + len(points) > METRICS_PER_CALL:
            self.flush_run(run)
        self._points.setdefault(run, []).extend(points)

    def flush(self) -> None:
        """Sends all but those that are held back."""
        for run in [one for one in self._points if one not in self._held]:
            self.flush_run(run)

    def flush_run(self, run: str) -> None:
        """Sends those of a run."""
        points = self._points.get(run, [])
        self._failing = run
        for start in range(0, len(points), METRICS_PER_CALL):
            self._send(run, points[start : start + METRICS_PER_CALL])
        self._points.pop(run, None)
        self._held.discard(run)
        self._failing = None

    def skip(self) -> bool:
        """Holds back the points that were refused in this write; whether there were any.

        They are tried again with the end of their run, or once they are too many for a call.
        Refused then too they are given up.
        """
        run, self._failing = self._failing, None
        if run is None:
            return False
        if run in self._held:
            self._lost.add(run)
            self._held.discard(run)
            self._given_up |= {point.timestamp for point in self._points.pop(run)}
        else:
            self._held.add(run)
        return True

    def is_lost(self, run: str) -> bool:
        """Whether points of a run were given up."""
        return run in self._lost

    def missing(self) -> set[int]:
        """Returns the times (ms) of points that were kept back or given up."""
        kept = {point.timestamp for points in self._points.values() for point in points}
        return kept | self._given_up
