"""Whether MLflow keeps up with a large study, and what its process costs.

The study of the question: 2,000 trials × 50 tasks × 60 metrics, 6 million points. The rate is
that of `study.tracking.writer` over the ledger of TRACKING_TRIALS such trials (default 20, 60,000
points), four at a time, into SQLite and into a server on loopback: everything counts, the making
of runs, params, tags and ends too, but the import of MLflow and the making of the database,
which a ledger of two records takes as well.

A ratio is needed / available where the study takes TRACKING_HOURS (default 24): below 1 the
writer keeps up. The seconds of a core are those of the writer's process for a study of four
confirmations of ten tasks, pictures included, in units of 2.5 % of 400 core-seconds, which is
half of the 5 % that the platform may cost on two cores over 200 s.
"""

import os
import tempfile
from pathlib import Path

from study.ledger import read_ledger
from study.system import own_command, own_environment
from tests.benchmarks.measuring import Row
from tests.benchmarks.workers import spent
from tests.study.histories import ledger_of, timed
from tests.study.tracking.mlflow_server import Server, counted
from tests.study.tracking.tracked import four_at_a_time

TRIALS, TASKS, METRICS = 2000, 50, 60
CORE_SECONDS = 0.025 * 400


def rows() -> list[Row]:
    """Rates into SQLite and a server, and the cost of a small study."""
    hours = float(os.environ.get("TRACKING_HOURS", "24"))
    trials = int(os.environ.get("TRACKING_TRIALS", "20"))
    rows = []
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        ledger = _ledger(folder / "large", trials, TASKS, "search")
        server = Server(folder)
        server.start()
        try:
            for what, uri, database in (
                ("SQLite", f"sqlite:///{folder}/own.db", folder / "own.db"),
                ("a server", server.uri, server.database),
            ):
                _write(ledger.parent, uri, first=2)
                (empty, spent), (whole, cpu) = (
                    _write(ledger.parent, uri, first=count) for count in (2, None)
                )
                seconds, cpu = whole - empty, cpu - spent
                points = sum(counted(database)[1].values())
                assert points == trials * TASKS * METRICS
                rate = points / seconds
                needed = TRIALS * TASKS * METRICS / (hours * 3600)
                note = (
                    f"{rate:,.0f} points/s; needed {needed:,.0f} over {hours:g} h; "
                    f"keeps up from {hours * needed / rate:.2f} h on; "
                    f"{points / cpu:,.0f} a second of a core"
                )
                name = f"points a second into {what}: needed / had"
                rows.append(Row(name, needed / rate, 1, note))
        finally:
            server.kill()
        small = _ledger(folder / "small", 4, 10, "confirm")
        _, cpu = _write(small.parent, f"sqlite:///{folder}/small.db")
        note = f"{cpu:.1f} s of a core for four confirmations of ten tasks, from import to pictures"
        rows.append(Row("CPU of the writer: small study / 10 s", cpu / CORE_SECONDS, 1, note))
    return rows


def _write(folder: Path, uri: str, first: int | None = None) -> tuple[float, float]:
    """Writes a ledger (or its first records) in a process; seconds, and seconds of a core."""
    if first is not None:
        part = Path(tempfile.mkdtemp(dir=folder)) / "part"
        ledger_of(read_ledger(folder / "ledger.jsonl")[:first], part)
        folder = part
    took = spent(own_command("study.tracking.writer", [str(folder), uri]), own_environment())
    if '"failure": null' not in took.said:
        raise RuntimeError(f"every record must be written, but: {took.said}")
    return took.seconds, took.core_seconds


def _ledger(folder: Path, trials: int, tasks: int, role: str) -> Path:
    """The ledger of a study of one cell, of whose trials each has as many params as real ones."""
    params = {f"optim.key_{number}": number for number in range(60)}
    return ledger_of(timed(four_at_a_time(tasks, METRICS, trials, role, params)), folder)
