"""Whether MLflow keeps up with a large study, and what its process costs.

The study of the question: 2,000 trials × 50 tasks × 60 metrics, 6 million points. The rate is
that of `study.ledger_writer` over the ledger of TRACKING_TRIALS such trials (default 20, 60,000
points), four at a time, into SQLite and into a server on loopback: everything counts, the making
of runs, params, tags and ends too, but the import of MLflow and the making of the database,
which a ledger of two records takes as well.

A ratio is needed / available where the study takes TRACKING_HOURS (default 24): below 1 the
writer keeps up. The seconds of a core are those of the writer's process for a study of four
confirmations of ten tasks, pictures included, in units of 2.5 % of 400 core-seconds, which is
half of the 5 % that the platform may cost on two cores over 200 s.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from study.ledger import Ledger, Record, read_ledger
from study.own_process import own_command, own_environment
from tests.benchmarks.row import Row
from tests.study.mlflow_server import Server, counted

TRIALS, TASKS, METRICS = 2000, 50, 60
CORE_SECONDS = 0.025 * 400


def rows() -> list[Row]:
    """Rates into SQLite and a server, and the cost of a small study."""
    hours = float(os.environ.get("TRACKING_HOURS", "24"))
    trials = int(os.environ.get("TRACKING_TRIALS", "20"))
    found = []
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        ledger = _ledger(folder / "large", _study(trials, TASKS, METRICS, "search"))
        server = Server(folder)
        server.start()
        try:
            for what, uri, database in (
                ("SQLite", f"sqlite:///{folder}/own.db", folder / "own.db"),
                ("a server", server.uri, server.database),
            ):
                _write(ledger.parent, uri, first=2)
                (empty, spent), (whole, cpu) = (
                    _write(ledger.parent, uri, first=one) for one in (2, None)
                )
                seconds, cpu = whole - empty, cpu - spent
                points = sum(counted(database)[1].values())
                assert points == trials * TASKS * METRICS
                rate = points / seconds
                needed = TRIALS * TASKS * METRICS / (hours * 3600)
                note = (
                    f"{rate:,.0f} points/s; needed {needed:,.0f} over {hours:g} h; "
                    f"keeps up from {TRIALS * TASKS * METRICS / rate / 3600:.2f} h on; "
                    f"{points / cpu:,.0f} a second of a core; load average {os.getloadavg()[0]:.1f}"
                )
                found.append(
                    Row(f"points a second into {what}: needed / had", needed / rate, 1, note)
                )
        finally:
            server.kill()
        small = _ledger(folder / "small", _study(4, 10, METRICS, "confirm"))
        _, cpu = _write(small.parent, f"sqlite:///{folder}/small.db")
        note = f"{cpu:.1f} s of a core for four confirmations of ten tasks, from import to pictures"
        found.append(Row("CPU of the writer: small study / 10 s", cpu / CORE_SECONDS, 1, note))
    return found


def _write(folder: Path, uri: str, first: int | None = None) -> tuple[float, float]:
    """Writes a ledger (or its first records) in a process; seconds, and seconds of a core."""
    if first is not None:
        part = Path(tempfile.mkdtemp(dir=folder)) / "part"
        _ledger(part, iter(read_ledger(folder / "ledger.jsonl")[:first]))
        folder = part
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        own_command("study.ledger_writer", [str(folder), uri]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=own_environment(),
    )
    out, _ = process.communicate()
    if '"failure": null' not in out:
        raise RuntimeError(f"every record must be written, but: {out}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu


def _ledger(folder: Path, records: Iterator[Record]) -> Path:
    folder.mkdir()
    ledger = Ledger(folder / "ledger.jsonl")
    for one in records:
        ledger.append(one)
    ledger.close()
    return ledger.path


def _study(trials: int, tasks: int, metrics: int, role: str) -> Iterator[Record]:
    """A study of one cell, four trials at any time."""
    about = {"version": 1, "name": "bench", "question": "Does it keep up?", "commit": None}
    spec = {"name": "bench", "seeds": list(range(trials))}
    more = {"versions": {"torch": "2"}, "host": "node", "chance": None, "spec": spec}
    now = 1795262400.0
    yield {"kind": "study", "time": now, **about, **more}
    cell = {"cell": "c", "key": {"method.name": "inflora"}, "fixed": {}, "search": {}}
    yield {"kind": "cell", "time": now, **cell}
    for wave in range(0, trials, 4):
        names = [f"{number:016x}" for number in range(wave, min(wave + 4, trials))]
        for name in names:
            params = {"method.name": "inflora", "seed": int(name, 16)}
            params |= {f"optim.key_{one}": one for one in range(60)}
            trial = {"cell": "c", "role": role, "params": params, "searched": {}}
            yield {"kind": "trial", "time": now, "trial": name, "seed": 0, **trial}
        for task in range(1, tasks + 1):
            for name in names:
                now += 0.5
                values = {f"subspace/dim_free/layer_{one:02d}": one / 7 for one in range(metrics)}
                row = {"metrics": values, "accuracy_row": [0.5] * task}
                yield {"kind": "task", "time": now, "trial": name, "task": task, **row}
        for name in names:
            end = {"status": "completed", "error": None}
            yield {"kind": "end", "time": now, "trial": name, **end}
    yield {"kind": "finished", "time": now, "status": "completed", "wall_seconds": 1.0}


if __name__ == "__main__":
    for row in rows():
        sys.stdout.write(f"{row.name} {row.ratio:.3f} {row.note}\n")
