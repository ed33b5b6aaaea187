"""A made-up study whose answers are known: what the tests and the page are looked at with."""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from study.ledger import Record, records
from study.planning.contrasts import Place, expanded
from tests.study.histories import facts, ranges, timed

CLASSES = 100
FIXED = {"data.name": "icons", "data.classes": CLASSES}
OFFSETS = (0.0, 0.01, -0.01, 0.02, -0.02)
"""What a seed adds to every accuracy: the same for all methods, so pairing takes it away."""
START = {"inflora": 0.80, "sd_lora": 0.83, "sequential": 0.75, "joint": 0.9, "linear_heads": 0.7}
SLOPE = {"inflora": 0.30, "sd_lora": 0.25, "sequential": 0.60, "joint": 0.1, "linear_heads": 0.3}
"""Accuracy after t of T tasks falls by SLOPE * (0.5 + T / 100) * t / T."""
RANK = {"inflora": 8, "sd_lora": 4}
WIDTH = 48
SPACE = ranges(
    {"optim.lr": FloatDistribution(1e-4, 1e-2, log=True), "method.rank": IntDistribution(2, 16)}
)


def made_up_study(
    methods: Sequence[str] = ("inflora", "sd_lora", "sequential"),
    tasks: Sequence[int] = (10, 50),
    seeds: Sequence[int] = (0, 1, 2),
    layers: int = 4,
    ripple: float = 0.002,
    keys: Sequence[Mapping[str, Any]] = ({},),
) -> list[Record]:
    """All records of a complete study; `ripple` makes the paired differences vary over seeds.

    The cells are `keys` × `tasks` × `methods`, the contrasts those that are so by default.
    """
    cells = [
        {"method.name": method, "data.tasks": count, **key}
        for key, count, method in product(keys, tasks, methods)
    ]
    places = [Place(_name(key), key, FIXED, key["data.tasks"]) for key in cells]
    about = facts(
        {"name": "made up", "grid": {"data.tasks": list(tasks)}, "seeds": list(seeds)},
        versions={"torch": "2.13.0", "optuna": "5.0.0"},
        commit="0123456789abcdef",
        host="node-7",
        chance=1 / CLASSES,
        contrasts=expanded(None, places),
    )
    found = [records.study("made up", "What do 50 tasks do to <inflora> & sd_lora?", about)]
    for cell in cells:
        found += _cell(cell, seeds, layers, ripple)
    return timed([*found, records.finished("completed", 123.0)])


def accuracy(
    method: str, seed: int, task: int, tasks: int, split: str = "test", ripple: float = 0.002
) -> float:
    """The accuracy after `task` tasks that the made-up study has for that seed."""
    slope = SLOPE[method] * (0.5 + tasks / 100)
    noise = ripple * math.sin(3.0 * seed + 2.0 * list(START).index(method) + tasks)
    return START[method] - slope * task / tasks + OFFSETS[seed] + noise - 0.01 * (split == "val")


def free_dims(method: str, layer: int, task: int, tasks: int) -> int:
    """Free dimensions that the made-up study has: InfLoRA's deepest layer runs empty."""
    if method == "sd_lora":
        return max(0, WIDTH - RANK[method] * task // (1 + layer))
    return max(0, round(WIDTH * (1 - (1 + 0.08 * layer) * task / tasks)))


def _name(key: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in key.items())


def _cell(
    key: Mapping[str, Any], seeds: Sequence[int], layers: int, ripple: float
) -> Iterator[Record]:
    method, count = key["method.name"], key["data.tasks"]
    cell = _name(key)
    yield records.cell(cell, key, FIXED, SPACE, count, count, seeds)

    def run(
        trial: str, role: str, searched: dict[str, Any], seed: int, tasks: int = count
    ) -> Iterator[Record]:
        params = {**FIXED, **key, **searched, "seed": seed}
        if method in RANK:
            params["method.rank"] = RANK[method]
        yield records.trial(trial, cell, role, params, searched, seed, count)
        split = "val" if role == "search" else "test"
        for task in range(1, tasks + 1):
            level = accuracy(method, seed, task, count, split, ripple)
            metrics = _metrics(method, split, level, task, count, layers)
            row = [
                max(0.0, min(1.0, level + 0.25 * old / task - 0.12 + 0.04 * math.sin(7.3 * old)))
                for old in range(1, task + 1)
            ]
            yield records.task(trial, task, metrics, row)

    ends: tuple[records.Status, ...] = ("completed", "pruned", "completed", "failed")
    for number, end in enumerate(ends):
        trial = f"{zlib.crc32(f'{cell} {number}'.encode()):016x}"[:16]
        rate = {"optim.lr": 0.0005 * (number + 1)}
        yield from run(trial, "search", rate, 0, count if end == "completed" else 2)
        error = "Traceback ...\nValueError: loss is NaN <script>" if end == "failed" else None
        yield records.end(trial, end, error, None if error is None else "error")
    best = {"optim.lr": 0.0005}
    yield records.winner(cell, "x", best, 0.61, "val/accuracy", {"val/accuracy": 0.61})
    for seed in seeds:
        trial = f"c{zlib.crc32(f'{cell} {seed}'.encode()):015x}"[:16]
        yield from run(trial, "confirm", best, seed)
        yield records.end(trial, "completed")


def _metrics(
    method: str, split: str, level: float, task: int, count: int, layers: int
) -> dict[str, float | None]:
    part = task / count
    metrics: dict[str, float | None] = {
        f"{split}/accuracy": level,
        f"{split}/average_anytime_accuracy": level + SLOPE[method] * part / 2,
        f"{split}/plasticity": 0.9,
        "time/train_seconds": 1.5,
        "time/evaluate_seconds": 0.5,
        "time/images_per_second": 900.0,
        "train/loss": None,
    }
    if task > 1:
        metrics[f"{split}/forgetting"] = 0.1 * part
    if method in RANK:
        for layer in range(layers):
            free = free_dims(method, layer, task, count)
            metrics[f"subspace/dim_free/layer_{layer:02d}"] = free
            metrics[f"subspace/dim_used/layer_{layer:02d}"] = WIDTH - free
    if method == "sd_lora":
        for old in range(1, task + 1):
            metrics[f"alpha/task_{old:02d}"] = 0.8 * (1 - 0.5 * (task - old) / count)
    return metrics
