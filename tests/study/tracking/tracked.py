"""Studies as the ledger would record them: a small one, and one of many trials at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import IntDistribution

from study.ledger import Record, records
from tests.study.histories import facts, ranges, timed

SPLIT = "0123456789abcdef" * 4
CELL = "method.name=inflora,data.tasks=3"
# 2026-11-21 12:00 UTC.
NOON = 1795262400.0


def study_records() -> list[Record]:
    """One cell, two searches, two confirmations, from NOON on."""
    return timed(_study_records(), NOON)


def _study_records() -> Iterator[Record]:
    spec = {"name": "quick", "seeds": (5, 6), "search": {"protocol": "whole_stream"}}
    sizes = {SPLIT: {"classes": 6, "train": 60, "test": 20}}
    yield records.study("quick", "Does it hold?", facts(spec, splits=sizes))
    key, space = {"method.name": "inflora", "data.tasks": 3}, {"method.rank": IntDistribution(1, 8)}
    yield records.cell(CELL, key, {"data.classes": 6}, ranges(space), 3, 3, (5, 6))
    for number, (role, seed, tasks) in enumerate(
        [("search", 0, 3), ("search", 0, 1), ("confirm", 5, 3), ("confirm", 6, 3)]
    ):
        trial, best = f"{number:016x}", {"method.rank": 4}
        if number == 2:
            values = {"val/accuracy": 0.7}
            yield records.winner(CELL, f"{0:016x}", best, 0.7, "val/accuracy", values)
        searched = {"method.rank": 8} if number == 1 else best
        params = {"method.name": "inflora", "backbone.adapt": None, "seed": seed, **searched}
        params |= {"data.name": "icons", "data.split_sha256": SPLIT, "preset": "paper"}
        yield records.trial(trial, CELL, role, params, searched, seed, 3)
        for task in range(1, tasks + 1):
            split = "test" if role == "confirm" else "val"
            metrics: dict[str, float | None] = {
                f"{split}/accuracy": 0.9 - 0.1 * task + 0.01 * number,
                "subspace/dim_free/layer_00": 16.0 - 4 * task,
                "subspace/dim_free/layer_01": 16.0 - 5 * task,
                "memory/peak_device_bytes": None,
            }
            if task > 1:
                metrics[f"{split}/forgetting"] = 0.1 * task
            row = [0.9 - 0.1 * (task - old) for old in range(1, task + 1)]
            yield records.task(trial, task, metrics, row, "worker", "NVIDIA H100")
        if role == "confirm":
            yield records.checkpoint(trial, tasks, "ray/one", {"a": 5, "b": 7})
        yield records.end(trial, "completed" if tasks == 3 else "pruned")
    yield records.finished("completed", 20.0)


def first(kind: str, ledger: Sequence[Record]) -> int:
    """The place of the first record of a kind."""
    return next(at for at, record in enumerate(ledger) if record["kind"] == kind)


def four_at_a_time(
    tasks: int,
    metrics: int,
    trials: int = 8,
    role: str = "search",
    params: Mapping[str, Any] = {},
) -> Iterator[Record]:
    """A study of one cell whose trials run four at any time, task by task in turn; not timed."""
    key, searched = {"method.name": "inflora"}, {"method.rank": 4}
    seeds = list(range(trials))
    yield records.study("quick", "Does it keep up?", facts({"name": "quick", "seeds": seeds}))
    yield records.cell(CELL, key, {}, {}, tasks, tasks, seeds)
    for wave in range(0, trials, 4):
        names = [f"{number:016x}" for number in range(wave, min(wave + 4, trials))]
        for name in names:
            seed = int(name, 16)
            known = {**key, **searched, "seed": seed, **params}
            yield records.trial(name, CELL, role, known, searched, seed, tasks)
        for task in range(1, tasks + 1):
            for name in names:
                values = {f"subspace/dim_free/layer_{at:02d}": task + at for at in range(metrics)}
                yield records.task(name, task, values, [0.5] * task)
        for name in names:
            yield records.end(name, "completed")
    yield records.finished("completed", 9.0)
