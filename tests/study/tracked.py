"""A small study as the ledger would record it: one cell, two searches, two confirmations."""

from typing import Any

from study.ledger import Record

SPLIT = "0123456789abcdef" * 4
CELL = "method.name=inflora,data.tasks=3"


def study_records() -> list[Record]:
    """The records, one second apart, from 2026-11-21 12:00 UTC on."""
    records: list[Record] = []

    def add(kind: str, **fields: Any) -> None:
        records.append({"kind": kind, "time": 1795262400.0 + len(records), **fields})

    add(
        "study",
        version=1,
        name="quick",
        question="Does it hold?",
        spec={"name": "quick", "seeds": (5, 6), "search": {"protocol": "whole_stream"}},
        versions={"torch": "2.13.0"},
        commit="abc",
        splits={SPLIT: {"classes": 6, "train": 60, "test": 20}},
        host="node",
        chance=None,
    )
    add(
        "cell",
        cell=CELL,
        key={"method.name": "inflora", "data.tasks": 3},
        fixed={"data.classes": 6},
        search={"method.rank": "1 … 8"},
    )
    for number, (role, seed, tasks) in enumerate(
        [("search", 0, 3), ("search", 0, 1), ("confirm", 5, 3), ("confirm", 6, 3)]
    ):
        trial = f"{number:016x}"
        if number == 2:
            first = f"{0:016x}"
            best = {"searched": {"method.rank": 4}, "value": 0.7, "objective": "val/accuracy"}
            add("winner", cell=CELL, trial=first, **best)
        searched = {"method.rank": 4 if number != 1 else 8}
        params = {"method.name": "inflora", "backbone.adapt": None, "seed": seed, **searched}
        params |= {"data.name": "icons", "data.split_sha256": SPLIT, "preset": "paper"}
        add("trial", trial=trial, cell=CELL, role=role, params=params, searched=searched, seed=seed)
        for task in range(1, tasks + 1):
            add(
                "task",
                trial=trial,
                task=task,
                metrics=_metrics("test" if role == "confirm" else "val", task, number),
                accuracy_row=[0.9 - 0.1 * (task - old) for old in range(1, task + 1)],
                host="worker",
                device="NVIDIA H100",
            )
        if role == "confirm":
            add("checkpoint", trial=trial, task=tasks, path="ray/one", files={"a": 5, "b": 7})
        add("end", trial=trial, status="completed" if tasks == 3 else "pruned", error=None)
    add("finished", status="completed", wall_seconds=20.0)
    return records


def _metrics(split: str, task: int, number: int) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {
        f"{split}/accuracy": 0.9 - 0.1 * task + 0.01 * number,
        "subspace/dim_free/layer_00": 16.0 - 4 * task,
        "subspace/dim_free/layer_01": 16.0 - 5 * task,
        "memory/peak_device_bytes": None,
    }
    if task > 1:
        metrics[f"{split}/forgetting"] = 0.1 * task
    return metrics
