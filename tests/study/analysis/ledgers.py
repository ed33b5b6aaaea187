"""A made-up study whose answers are known: what the tests and the page are looked at with."""

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from study.ledger import Record

CLASSES = 100
OFFSETS = (0.0, 0.01, -0.01, 0.02, -0.02)
"""What a seed adds to every accuracy: the same for all methods, so pairing takes it away."""
START = {"inflora": 0.80, "sd_lora": 0.83, "sequential": 0.75, "joint": 0.9, "linear_heads": 0.7}
SLOPE = {"inflora": 0.30, "sd_lora": 0.25, "sequential": 0.60, "joint": 0.1, "linear_heads": 0.3}
"""Accuracy after t of T tasks falls by SLOPE * (0.5 + T / 100) * t / T."""
RANK = {"inflora": 8, "sd_lora": 4}
WIDTH = 48
SPACE = {"optim.lr": "0.0001 to 0.01, log", "method.rank": "2 to 16"}


def made_up_study(
    methods: Sequence[str] = ("inflora", "sd_lora", "sequential"),
    tasks: Sequence[int] = (10, 50),
    seeds: Sequence[int] = (0, 1, 2),
    layers: int = 4,
    ripple: float = 0.002,
    key: dict[str, Any] | None = None,
) -> list[Record]:
    """All records of a complete study; `ripple` makes the paired differences vary over seeds."""
    clock = iter(range(1_000_000, 10_000_000))
    records: list[Record] = [
        {
            "kind": "study",
            "version": 1,
            "name": "made up",
            "question": "What do 50 tasks do to <inflora> & sd_lora?",
            "spec": {"name": "made up", "grid": {"data.tasks": list(tasks)}, "seeds": list(seeds)},
            "versions": {"torch": "2.13.0", "optuna": "5.0.0"},
            "commit": "0123456789abcdef",
            "host": "node-7",
            "chance": 1 / CLASSES,
        }
    ]
    for count in tasks:
        for method in methods:
            cell_key = {"method.name": method, "data.tasks": count, **(key or {})}
            records += _cell(cell_key, seeds, layers, ripple)
    records.append({"kind": "finished", "status": "completed", "wall_seconds": 123.0})
    return [{**record, "time": float(next(clock))} for record in records]


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


def _cell(
    key: dict[str, Any], seeds: Sequence[int], layers: int, ripple: float
) -> Iterator[Record]:
    method, count = key["method.name"], key["data.tasks"]
    cell = ",".join(f"{name}={value}" for name, value in key.items())
    fixed = {"data.name": "icons", "data.classes": CLASSES}
    yield {"kind": "cell", "cell": cell, "key": key, "fixed": fixed, "search": SPACE}
    ends = ("completed", "pruned", "completed", "failed")
    for number, end in enumerate(ends):
        trial = f"{zlib.crc32(f'{cell} {number}'.encode()):016x}"[:16]
        searched = {"optim.lr": 0.0005 * (number + 1)}
        yield _trial(trial, cell, "search", {**fixed, **key}, searched, 0)
        for task in range(1, (count if end == "completed" else 2) + 1):
            yield _task(trial, "val", method, task, count, 0, layers, ripple)
        error = "Traceback ...\nValueError: loss is NaN <script>" if end == "failed" else None
        yield {"kind": "end", "trial": trial, "status": end, "error": error}
    best = {"optim.lr": 0.0005}
    chosen = {"cell": cell, "trial": "x", "searched": best, "value": 0.61}
    yield {"kind": "winner", "objective": "val/accuracy", **chosen}
    for seed in seeds:
        trial = f"c{zlib.crc32(f'{cell} {seed}'.encode()):015x}"[:16]
        yield _trial(trial, cell, "confirm", {**fixed, **key}, best, seed)
        for task in range(1, count + 1):
            yield _task(trial, "test", method, task, count, seed, layers, ripple)
        yield {"kind": "end", "trial": trial, "status": "completed", "error": None}


def _trial(
    trial: str, cell: str, role: str, known: dict[str, Any], searched: dict[str, Any], seed: int
) -> Record:
    params = {**known, **searched, "seed": seed}
    if params["method.name"] in RANK:
        params["method.rank"] = RANK[params["method.name"]]
    names = {"trial": trial, "cell": cell, "role": role}
    return {"kind": "trial", **names, "params": params, "searched": searched, "seed": seed}


def _task(
    trial: str,
    split: str,
    method: str,
    task: int,
    count: int,
    seed: int,
    layers: int,
    ripple: float,
) -> Record:
    part = task / count
    level = accuracy(method, seed, task, count, split, ripple)
    row = [
        max(0.0, min(1.0, level + 0.25 * (old / task) - 0.12 + 0.04 * math.sin(7.3 * old)))
        for old in range(1, task + 1)
    ]
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
    return {
        "kind": "task",
        "trial": trial,
        "task": task,
        "metrics": metrics,
        "accuracy_row": row,
    }
