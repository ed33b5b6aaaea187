"""Small trials: building them, running them to their end, telling whether two are the same."""

from typing import Any

import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer, TaskResult

UNTIMED = ("time/", "memory/host_rss")
TINY: dict[str, Any] = {
    "data.name": "gaussian",
    "data.image_size": 8,
    "data.classes": 12,
    "data.tasks": 4,
    "data.train_per_class": 8,
    "data.augmentation": "affine",
    "backbone.name": "test_vit",
    "backbone.pretrained": False,
    "optim.lr": 0.01,
    "optim.epochs": 2,
    "optim.batch_size": 16,
}

# Random features for the 16 features of the small networks.
OWN: dict[str, dict[str, Any]] = {"ranpac": {"method.head_projection": 64}}


def tiny(method: str, changes: dict[str, Any] | None = None) -> TrialConfig:
    """A config that trains in a fraction of a second."""
    return TrialConfig.from_params(
        {**TINY, **OWN.get(method, {}), "method.name": method, **(changes or {})}
    )


def run(trainer: SequentialTrainer, tasks: int | None = None) -> list[TaskResult]:
    """Trains `tasks` tasks, or all that are left."""
    results: list[TaskResult] = []
    while not trainer.done and tasks != len(results):
        results.append(trainer.train_task())
    return results


def trained(
    method: str, changes: dict[str, Any] | None = None, tasks: int | None = None
) -> SequentialTrainer:
    """The trainer of a tiny trial after `tasks` tasks, or all of them."""
    trainer = SequentialTrainer(tiny(method, changes))
    run(trainer, tasks)
    return trainer


def results_of(
    method: str, changes: dict[str, Any] | None = None, tasks: int | None = None
) -> list[TaskResult]:
    """What `tasks` tasks of a tiny trial gave, or all of them."""
    return run(SequentialTrainer(tiny(method, changes)), tasks)


def weights(trainer: SequentialTrainer) -> dict[str, Tensor]:
    """Copies of all weights and buffers of the network."""
    return {name: value.clone() for name, value in trainer._model.state_dict().items()}


def moved(trainer: SequentialTrainer, before: dict[str, Tensor]) -> set[str]:
    """Which weights and buffers are no longer as they were."""
    now = weights(trainer)
    return {name for name, value in before.items() if not torch.equal(now[name], value)}


def comparable(result: TaskResult) -> dict[str, float]:
    """Metrics that do not depend on how busy the machine is."""
    return {k: v for k, v in result.metrics.items() if not k.startswith(UNTIMED)}


def same(first: Any, other: Any) -> bool:
    """Whether two checkpoints are equal, tensors bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, other)
    if isinstance(first, dict):
        return first.keys() == other.keys() and all(same(first[key], other[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(other) and all(map(same, first, other))
    return bool(first == other)
