"""Running trials to their end, and telling whether two of them are the same."""

from typing import Any

import torch

from trainables.trainer import SequentialTrainer, TaskResult

UNTIMED = ("time/", "memory/host_rss")


def run(trainer: SequentialTrainer) -> list[TaskResult]:
    """Trains all tasks that are left."""
    results = []
    while not trainer.done:
        results.append(trainer.train_task())
    return results


def comparable(result: TaskResult) -> dict[str, float]:
    """Metrics that do not depend on how busy the machine is."""
    return {k: v for k, v in result.metrics.items() if not k.startswith(UNTIMED)}


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
