"""Metrics of class-incremental learning from predictions and from the accuracy matrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """What one pass over the held-out images of all tasks seen gives, each a share in [0, 1]."""

    accuracy: float
    per_task: tuple[float, ...]
    task_known_accuracy: float
    task_prediction_accuracy: float


def evaluate(logits: Tensor, labels: Tensor, tasks: Sequence[range]) -> Evaluation:
    """Scores `logits` (n, classes seen) against `labels` (n,), given the classes of each task.

    Images weigh equally in all but `per_task`.
    """
    task_of_class = torch.cat(
        [torch.full((len(classes),), index) for index, classes in enumerate(tasks)]
    ).to(labels.device)
    predicted = logits.argmax(1)
    task = task_of_class[labels]
    own_task = task_of_class[None, :] == task[:, None]
    known = logits.masked_fill(~own_task, float("-inf")).argmax(1)
    right = predicted == labels
    return Evaluation(
        accuracy=_share(right),
        per_task=tuple(_share(right[task == index]) for index in range(len(tasks))),
        task_known_accuracy=_share(known == labels),
        task_prediction_accuracy=_share(task_of_class[predicted] == task),
    )


def forgetting(matrix: Sequence[Sequence[float]]) -> float:
    """F_T: mean over old tasks of their best accuracy before now, less their accuracy now.

    `matrix[t][i]` is the accuracy on task i after task t, i ≤ t, for at least two tasks.
    """
    now, old = matrix[-1], range(len(matrix) - 1)
    best = [max(row[i] for row in matrix[i:-1]) for i in old]
    return sum(best[i] - now[i] for i in old) / len(old)


def forgetting_zero_gains(matrix: Sequence[Sequence[float]]) -> float:
    """F_T as released code counts it: a task that is known better than ever before counts 0.

    `matrix` as in `forgetting`.
    """
    now, old = matrix[-1], range(len(matrix) - 1)
    return sum(max(row[i] for row in matrix[i:]) - now[i] for i in old) / len(old)


def backward_transfer(matrix: Sequence[Sequence[float]]) -> float:
    """BWT: mean over old tasks of accuracy now less accuracy when just learned."""
    now, old = matrix[-1], range(len(matrix) - 1)
    return sum(now[i] - matrix[i][i] for i in old) / len(old)


def plasticity(matrix: Sequence[Sequence[float]]) -> float:
    """Mean accuracy on each task when it was just learned."""
    return sum(row[-1] for row in matrix) / len(matrix)


def summarise(
    matrix: Sequence[Sequence[float]], accuracies: Sequence[float], last: Evaluation, split: str
) -> dict[str, float]:
    """All accuracy metrics after the newest task, named `split`/…; `accuracies` are A_1 … A_t."""
    values = {
        "accuracy": last.accuracy,
        "average_anytime_accuracy": sum(accuracies) / len(accuracies),
        "plasticity": plasticity(matrix),
        "task_known_accuracy": last.task_known_accuracy,
        "task_prediction_accuracy": last.task_prediction_accuracy,
    }
    if len(matrix) > 1:
        values["forgetting"] = forgetting(matrix)
        values["forgetting_zero_gains"] = forgetting_zero_gains(matrix)
        values["backward_transfer"] = backward_transfer(matrix)
    return {f"{split}/{name}": value for name, value in values.items()}


def _share(hits: Tensor) -> float:
    return float(hits.double().mean()) if hits.numel() else float("nan")


def counted(name: str, flags: Mapping[str, bool]) -> dict[str, float]:
    """`name` as the number of layers with a flag and `name`/layer_XX as 0 or 1."""
    each = {f"{name}/{layer}": float(flag) for layer, flag in flags.items()}
    return {name: sum(each.values())} | each


def by_layer(name: str, values: Mapping[str, float]) -> dict[str, float]:
    """`name` as the mean over layers and `name`/layer_XX for each; nothing for no layers."""
    if not values:
        return {}
    mean = {name: sum(values.values()) / len(values)}
    return mean | {f"{name}/{layer}": float(value) for layer, value in values.items()}
