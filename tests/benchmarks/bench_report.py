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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution

from study.ledger import Record, records
from tests.benchmarks.measuring import Row
from tests.benchmarks.workers import spent
from tests.study.histories import START, facts, ranges

SECONDS, BYTES = 60.0, 2 * 2**30
METHODS = ("inflora", "inflora_ca", "sd_lora", "sequential")
RANKS = (4, 8, 16, 32, 64)
SPACE = {
    "optim.lr": FloatDistribution(3e-4, 1e-2, log=True),
    "method.epsilon": FloatDistribution(0.8, 0.99),
}
SEEDS, CELL_TRIALS, LAYERS, WIDTH = 10, 100, 12, 768
PER_LAYER = ("dim_free", "dim_used", "interference", "exhausted_layers")
OF_A_TASK = (
    "accuracy",
    "average_anytime_accuracy",
    "forgetting",
    "backward_transfer",
    "plasticity",
)
BYTES_OF = ("subspace", "branch", "host_rss", "checkpoint")
OTHERS = (
    *(f"memory/{what}_bytes" for what in BYTES_OF),
    *("time/train_seconds", "time/evaluate_seconds", "train/loss"),
)


def rows() -> list[Row]:
    """Wall time and peak memory of the report."""
    trials = int(os.environ.get("REPORT_TRIALS", "2000"))
    tasks = int(os.environ.get("REPORT_TASKS", "50"))
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        with (folder / "ledger.jsonl").open("w", encoding="utf-8") as file:
            # A second between two records.
            for second, record in enumerate(_records(trials // CELL_TRIALS, tasks)):
                file.write(json.dumps({**record, "time": START + second}) + "\n")
        size = (folder / "ledger.jsonl").stat().st_size
        took = spent([sys.executable, "-m", "study.run", "--report", str(folder)])
        page = (folder / "report" / "report.html").stat().st_size
    per_task = len(PER_LAYER) * LAYERS + len(OF_A_TASK) + len(OTHERS)
    note = (
        f"{trials} trials × {tasks} tasks × {per_task} metrics, ledger of {size / 1e6:.0f} MB, "
        f"page of {page / 1e6:.1f} MB: "
    )
    return [
        Row("report: seconds / 60", took.seconds / SECONDS, 1.0, f"{note}{took.seconds:.1f} s"),
        Row("report: peak memory / 2 GiB", took.peak / BYTES, 1.0, f"{took.peak / 2**20:.0f} MiB"),
    ]


def _records(cells: int, tasks: int) -> Iterator[Record]:
    """The ledger of a complete study."""
    spec: dict[str, Any] = {
        "name": "large",
        "question": "How long does a report take?",
        "grid": {"method.name": METHODS, "method.rank": RANKS},
        "fixed": {"data.name": "imagenet_r", "data.tasks": tasks},
        "objective": {"val/accuracy": "max"},
        "trials": CELL_TRIALS - SEEDS,
        "seeds": list(range(SEEDS)),
    }
    yield records.study("large", spec["question"], facts(spec, chance=0.005))
    keys = [
        {"method.name": method, "method.rank": rank}
        for method, rank in itertools.islice(itertools.product(METHODS, RANKS), cells)
    ]
    draw, space = random.Random(0), ranges(SPACE)
    for key in keys:
        yield records.cell(_name(key), key, spec["fixed"], space, tasks, tasks, spec["seeds"])
    for key in keys:
        yield from _cell(key, tasks, draw)
    yield records.finished("completed", 1e6)


def _cell(key: dict[str, Any], tasks: int, draw: random.Random) -> Iterator[Record]:
    best: dict[str, Any] = {}
    for number in range(CELL_TRIALS):
        seed = max(0, number - (CELL_TRIALS - SEEDS))
        role, split = ("search", "val") if number < CELL_TRIALS - SEEDS else ("confirm", "test")
        drawn = {"optim.lr": 10 ** draw.uniform(-3.5, -2), "method.epsilon": draw.uniform(0.8, 1)}
        searched = drawn if role == "search" else best
        best = best or drawn
        if number == CELL_TRIALS - SEEDS:
            value = {"val/accuracy": 0.7}
            yield records.winner(_name(key), "x", best, 0.7, "val/accuracy", value)
        trial = f"{_name(key)}/{number}"
        params = {**key, "data.name": "imagenet_r", "data.tasks": tasks, **searched, "seed": seed}
        yield records.trial(trial, _name(key), role, params, searched, seed, tasks)
        for task in range(1, tasks + 1):
            row = [draw.uniform(0.5, 0.9) for _ in range(task)]
            metrics = _metrics(split, key["method.rank"], task, tasks, draw)
            yield records.task(trial, task, metrics, row)
        yield records.end(trial, "completed")


def _metrics(split: str, rank: int, task: int, tasks: int, draw: random.Random) -> dict[str, float]:
    level = 0.8 - 0.2 * task / tasks
    metrics = {f"{split}/{name}": level + draw.gauss(0, 0.01) for name in OF_A_TASK}
    metrics |= {name: draw.uniform(0.5, 2.0) for name in OTHERS}
    for layer in range(LAYERS):
        free = max(0, WIDTH - (rank + layer) * task)
        values = (free, WIDTH - free, draw.random(), float(free < rank))
        metrics |= {
            f"subspace/{name}/layer_{layer:02d}": value
            for name, value in zip(PER_LAYER, values, strict=True)
        }
    return metrics


def _name(key: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in key.items())
