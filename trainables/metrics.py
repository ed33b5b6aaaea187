"""Metrics of class-incremental learning from predictions and from the accuracy matrix."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """What one pass over the held-out images of all tasks seen gives, each a share in [0, 1].

    `recency_bias` is NaN while there is one task; `readout_accuracy` is None where no read-out told
    the classes as well.
    """

    accuracy: float
    per_task: tuple[float, ...]
    task_known_accuracy: float
    task_prediction_accuracy: float
    recency_bias: float = float("nan")
    readout_accuracy: float | None = None
    choice: "Choice | None" = None


@dataclass(frozen=True)
class Choice:
    """What a method with prompts chose for the images: `shares` of them that got each prompt.

    `right` is the share that got the prompt of their own task, None where prompts have none.
    """

    shares: tuple[float, ...]
    right: float | None

    def summary(self) -> dict[str, float]:
        """As prompt/…: how many were chosen at all, as how many equally often, and each share."""
        values = {"prompt/used": float(sum(share > 0 for share in self.shares))}
        total = sum(self.shares)
        parts = [share / total for share in self.shares if share > 0]
        values["prompt/used_equally"] = math.exp(-sum(part * math.log(part) for part in parts))
        name = "prompt" if self.right is None else "task"
        for number, share in enumerate(self.shares, start=1):
            values[f"prompt/chosen/{name}_{number:02d}"] = share
        if self.right is not None:
            values["prompt/task_inferred"] = self.right
        return values


def evaluate(
    logits: Tensor,
    labels: Tensor,
    tasks: Sequence[range],
    read_out: Tensor | None = None,
    chosen: Tensor | None = None,
    by_task: bool = False,
) -> Evaluation:
    """Scores `logits` (n, classes seen) against `labels` (n,), given the classes of each task.

    Columns beyond are of classes not seen yet, and an image given to one of them is told wrong.
    `read_out` (n,) are the classes that a read-out of the features told, `chosen` (n, prompts)
    whether an image got a prompt, where column t is of task t if they are `by_task`. Images weigh
    equally in all but `per_task`.
    """
    unseen = torch.full((logits.shape[1] - tasks[-1].stop,), -1)
    task_of_class = torch.cat(
        [torch.full((len(classes),), index) for index, classes in enumerate(tasks)] + [unseen]
    ).to(labels.device)
    predicted = logits.argmax(1)
    task = task_of_class[labels]
    own_task = task_of_class[None, :] == task[:, None]
    known = logits.masked_fill(~own_task, float("-inf")).argmax(1)
    right = predicted == labels
    newest = len(tasks) - 1
    return Evaluation(
        accuracy=_share(right),
        per_task=tuple(_share(right[task == index]) for index in range(len(tasks))),
        task_known_accuracy=_share(known == labels),
        task_prediction_accuracy=_share(task_of_class[predicted] == task),
        recency_bias=_share(task_of_class[predicted[task < newest]] == newest),
        readout_accuracy=None if read_out is None else _share(read_out == labels),
        choice=None if chosen is None else _choice(chosen, task if by_task else None),
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


def minimum_accuracy(lows: Sequence[Sequence[float]]) -> float:
    """min-ACC: mean over old tasks of the least accuracy that each had since it was learned.

    `lows[k][i]` is the least accuracy on task i that was measured while task k was learned or
    after it, i < k, for at least two tasks. De Lange, van de Ven and Tuytelaars (ICLR 2023).
    """
    old = range(len(lows) - 1)
    return sum(min(row[i] for row in lows[i + 1 :]) for i in old) / len(old)


def stability_gap(matrix: Sequence[Sequence[float]], lows: Sequence[Sequence[float]]) -> float:
    """Mean over old tasks of the largest drop while one later task was learned, at least 0.

    A drop is the accuracy when that task began less the least one in it. `matrix` as in
    `forgetting`, `lows` as in `minimum_accuracy`. The gap is what De Lange and others describe;
    the one number for it is ours.
    """
    old = range(len(lows) - 1)
    drops = (max(matrix[k - 1][i] - lows[k][i] for k in range(i + 1, len(lows))) for i in old)
    return sum(max(0.0, drop) for drop in drops) / len(old)


def while_learning(
    matrix: Sequence[Sequence[float]], lows: Sequence[Sequence[float]], split: str
) -> dict[str, float]:
    """What evaluations while later tasks are learned tell, named `split`/…; nothing of one task."""
    if len(lows) < 2:
        return {}
    return {
        f"{split}/minimum_accuracy": minimum_accuracy(lows),
        f"{split}/stability_gap": stability_gap(matrix, lows),
    }


def summarise(
    matrix: Sequence[Sequence[float]], accuracies: Sequence[float], last: Evaluation, split: str
) -> dict[str, float]:
    """All accuracy metrics after the newest task, named `split`/…; `accuracies` are A_1 … A_t.

    With what was chosen, as prompt/…, where there are prompts. Those of the accuracies after every
    task are left out where a row of `matrix` is empty.
    """
    values = {
        "accuracy": last.accuracy,
        "task_known_accuracy": last.task_known_accuracy,
        "task_prediction_accuracy": last.task_prediction_accuracy,
    }
    if all(matrix):
        values["average_anytime_accuracy"] = sum(accuracies) / len(accuracies)
        values["plasticity"] = plasticity(matrix)
    if len(matrix) > 1:
        values["recency_bias"] = last.recency_bias
    if all(matrix) and len(matrix) > 1:
        values["forgetting"] = forgetting(matrix)
        values["forgetting_zero_gains"] = forgetting_zero_gains(matrix)
        values["backward_transfer"] = backward_transfer(matrix)
    if last.readout_accuracy is not None:
        values["readout_accuracy"] = last.readout_accuracy
        values["lost/heads"] = last.readout_accuracy - last.accuracy
        values["lost/inference"] = last.task_known_accuracy - last.accuracy
    chosen = {} if last.choice is None else last.choice.summary()
    return {f"{split}/{name}": value for name, value in values.items()} | chosen


def _choice(chosen: Tensor, task: Tensor | None) -> Choice:
    right = None if task is None else _share(chosen.gather(1, task[:, None]))
    return Choice(tuple(chosen.double().mean(0).tolist()), right)


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
