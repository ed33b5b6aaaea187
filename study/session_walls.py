"""SessionWalls: the wall time of a study over all its sessions."""

from study.ledger import Record


class SessionWalls:
    """Wall seconds of each session, by the time of its first record, so that none counts twice."""

    def __init__(self) -> None:
        self._walls: dict[float, float] = {}
        self._began: float | None = None
        self._latest = 0.0

    def take(self, record: Record) -> None:
        """Takes the next record of a ledger."""
        if record["kind"] in ("study", "resumed"):
            if self._began not in (None, record["time"]):
                # Killed: without a record of its own end, the last one it wrote stands for that.
                self._close(self._latest)
            self._began = record["time"]
        elif record["kind"] == "finished" and self._began is not None:
            self._walls[self._began] = record["wall_seconds"] or 0.0
            self._began = None
        self._latest = record["time"]

    def _close(self, time: float) -> None:
        if self._began is not None:
            self._walls.setdefault(self._began, time - self._began)

    @property
    def total(self) -> float:
        """Seconds of all sessions that ended."""
        return sum(self._walls.values())
