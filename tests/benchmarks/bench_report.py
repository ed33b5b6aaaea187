"""What the report of a large study takes: 2,000 trials × 50 tasks × 60 metrics.

The ledger is made up: 4 methods × 5 ranks, in each of the 20 cells 90 search trials and
confirmations on 10 seeds, all of which see all tasks, 12 layers; about 400 MB. Measured is the
whole command `study/run.py --report`, from its start to its end, in a process of its own: wall
time, and the most memory that it occupied (ru_maxrss). Limits: a minute on two cores and 2 GiB.

Environment: REPORT_TRIALS (default 2000, in whole multiples of 100), REPORT_TASKS (default 50).
"""

import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.row import Row

SECONDS, BYTES = 60.0, 2 * 2**30
METHODS = ("inflora", "inflora_ca", "sd_lora", "sequential")
RANKS = (4, 8, 16, 32, 64)
SEEDS, CELL_TRIALS, LAYERS, WIDTH = 10, 100, 12, 768
PER_LAYER = (
    "subspace/dim_free",
    "subspace/dim_used",
    "subspace/interference",
    "subspace/exhausted_layers",
)
OF_A_TASK = (
    "accuracy",
    "average_anytime_accuracy",
    "forgetting",
    "backward_transfer",
    "plasticity",
)
OTHERS = (
    "memory/subspace_bytes",
    "memory/branch_bytes",
    "memory/host_rss_bytes",
    "memory/checkpoint_bytes",
    "time/train_seconds",
    "time/evaluate_seconds",
    "train/loss",
)


def rows() -> list[Row]:
    """Wall time and peak memory of the report."""
    trials = int(os.environ.get("REPORT_TRIALS", "2000"))
    tasks = int(os.environ.get("REPORT_TASKS", "50"))
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        with (folder / "ledger.jsonl").open("w", encoding="utf-8") as file:
            for record in _records(trials // CELL_TRIALS, tasks):
                file.write(json.dumps(record) + "\n")
        size = (folder / "ledger.jsonl").stat().st_size
        seconds, peak = _measured(folder, folder / "log")
        page = (folder / "report" / "report.html").stat().st_size
    per_task = len(PER_LAYER) * LAYERS + len(OF_A_TASK) + len(OTHERS)
    note = (
        f"{trials} trials × {tasks} tasks × {per_task} metrics, ledger of {size / 1e6:.0f} MB, "
        f"page of {page / 1e6:.1f} MB, load average {os.getloadavg()[0]:.1f}: "
    )
    return [
        Row("report: seconds / 60", seconds / SECONDS, 1.0, f"{note}{seconds:.1f} s"),
        Row("report: peak memory / 2 GiB", peak / BYTES, 1.0, f"{peak / 2**20:.0f} MiB"),
    ]


def _measured(folder: Path, log: Path) -> tuple[float, int]:
    """Seconds and peak bytes of the report of a folder."""
    command = [sys.executable, "-m", "study.run", "--report", str(folder)]
    out = os.open(log, os.O_WRONLY | os.O_CREAT)
    streams = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
    start = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, dict(os.environ), file_actions=streams)
    # Of this child alone, where getrusage would give the largest of all.
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    os.close(out)
    if os.waitstatus_to_exitcode(status):
        text = log.read_text(encoding="utf-8")[-2000:]
        raise RuntimeError(f"{' '.join(command)} must succeed, but it said: {text}")
    return seconds, usage.ru_maxrss * 1024


def _records(cells: int, tasks: int) -> Iterator[dict[str, Any]]:
    """The ledger of a complete study, a second between two records."""
    clock = itertools.count(1_000_000)
    spec = {
        "name": "large",
        "question": "How long does a report take?",
        "grid": {"method.name": METHODS, "method.rank": RANKS},
        "fixed": {"data.name": "imagenet_r", "data.tasks": tasks},
        "objective": {"val/accuracy": "max"},
        "trials": CELL_TRIALS - SEEDS,
        "seeds": list(range(SEEDS)),
    }
    about = {"name": "large", "question": spec["question"], "chance": 0.005, "data": {}}
    session = {"versions": {"torch": "2.13.0"}, "commit": "abc", "host": "node"}
    yield {"kind": "study", "version": 1, "time": next(clock), "spec": spec, **about, **session}
    keys = [
        {"method.name": method, "method.rank": rank}
        for method, rank in itertools.islice(itertools.product(METHODS, RANKS), cells)
    ]
    search = {"optim.lr": "0.0003 to 0.01 (log)", "method.epsilon": "0.8 to 0.99"}
    for key in keys:
        about = {"cell": _name(key), "key": key, "fixed": spec["fixed"], "search": search}
        more = {"tasks": tasks, "search_tasks": tasks, "seeds": spec["seeds"], "tuned_in": None}
        yield {"kind": "cell", "time": next(clock), **about, **more}
    draw = random.Random(0)
    for key in keys:
        yield from _cell(key, tasks, draw, clock)
    yield {"kind": "finished", "status": "completed", "wall_seconds": 1e6, "time": next(clock)}


def _cell(
    key: dict[str, Any], tasks: int, draw: random.Random, clock: "itertools.count[int]"
) -> Iterator[dict[str, Any]]:
    best: dict[str, Any] = {}
    for number in range(CELL_TRIALS):
        role = "search" if number < CELL_TRIALS - SEEDS else "confirm"
        seed = 0 if role == "search" else number - (CELL_TRIALS - SEEDS)
        drawn = {"optim.lr": 10 ** draw.uniform(-3.5, -2), "method.epsilon": draw.uniform(0.8, 1)}
        searched = drawn if role == "search" else best
        best = best or drawn
        if number == CELL_TRIALS - SEEDS:
            found = {"cell": _name(key), "trial": "x", "searched": best, "value": 0.7}
            yield {"kind": "winner", "objective": "val/accuracy", "time": next(clock), **found}
        trial = f"{_name(key)}/{number}"
        params = {**key, "data.name": "imagenet_r", "data.tasks": tasks, **searched, "seed": seed}
        about = {"cell": _name(key), "role": role, "params": params, "searched": searched}
        kind = {"kind": "trial", "trial": trial, "seed": seed, "tasks": tasks}
        yield {**kind, "time": next(clock), **about}
        for task in range(1, tasks + 1):
            split = "val" if role == "search" else "test"
            row = [draw.uniform(0.5, 0.9) for _ in range(task)]
            metrics = _metrics(split, key["method.rank"], task, tasks, draw)
            one = {"kind": "task", "trial": trial, "task": task, "time": next(clock)}
            yield {**one, "metrics": metrics, "accuracy_row": row}
        end = {"kind": "end", "trial": trial, "status": "completed", "error": None}
        yield {**end, "reason": None, "retries": 0, "time": next(clock)}


def _metrics(split: str, rank: int, task: int, tasks: int, draw: random.Random) -> dict[str, float]:
    level = 0.8 - 0.2 * task / tasks
    metrics = {f"{split}/{name}": level + draw.gauss(0, 0.01) for name in OF_A_TASK}
    metrics |= {name: draw.uniform(0.5, 2.0) for name in OTHERS}
    for layer in range(LAYERS):
        free = max(0, WIDTH - (rank + layer) * task)
        values = (free, WIDTH - free, draw.random(), float(free < rank))
        metrics |= {
            f"{name}/layer_{layer:02d}": value
            for name, value in zip(PER_LAYER, values, strict=True)
        }
    return metrics


def _name(key: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in key.items())
