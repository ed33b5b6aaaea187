"""Methods from before prompts are trained and evaluated as they were then, bit for bit."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd.graph import increment_version

from tests.trainables.trials import run, same, tiny, trained
from trainables import trainer as trainer_module
from trainables.config import OptimConfig
from trainables.data.batches import FORWARD_BATCH, TaskImages, to_unit
from trainables.data.stream import Task, joined
from trainables.fitting import create_optimizer, create_schedule
from trainables.trainer import SequentialTrainer

# Pinned, not independent, from the release before prompts (66eb693): the last task's train/loss and
# the sum of the absolute weights of all heads.
PINNED: dict[str, tuple[float | None, float | None]] = {
    "averaged_lora": (1.79677200, 3.09441922),
    "inflora": (1.77949905, 3.20058850),
    "inflora_b5": (1.77949905, 3.20058850),
    "inflora_ca": (1.77949905, 44.6909319),
    "joint": (2.52075492, 3.05138690),
    "linear_heads": (1.79180908, 3.12966535),
    "nearest_mean": (None, None),
    "sd_lora": (1.79731920, 3.10079843),
    "sd_lora_kd": (1.79731920, 3.10079843),
    "sd_lora_rr": (1.79731920, 3.10079843),
    "sequential": (1.79391204, 2.97201821),
    "sequential_lora": (1.79469850, 2.90086299),
}
METHODS = list(PINNED)


def epochs_as_before(
    model: Any,
    method: Any,
    groups: Any,
    task: Task,
    train: TaskImages,
    optim: OptimConfig,
    after_step: Callable[[], None] | None = None,
    *_: Any,
) -> float | None:
    """The epochs of a task as that release had them, on a CPU."""
    model.requires_grad_(False)
    parameters = [parameter for group in groups for parameter in group.parameters]
    if not parameters:
        return None
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = create_optimizer(groups, optim)
    schedule = create_schedule(optimizer, optim, math.ceil(len(train) / optim.batch_size))
    total = torch.zeros(())
    for _epoch in range(optim.epochs):
        total.zero_()
        for images, labels in train.shuffled():
            optimizer.zero_grad(set_to_none=True)
            loss = method.loss(method.logits(model(images)), labels, task.classes)
            loss.backward()
            optimizer.step()
            increment_version(parameters)
            schedule.step()
            total += loss.detach() * len(labels)
            if after_step is not None:
                after_step()
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
    return float(total) / len(train)


def evaluated_as_before(trainer: SequentialTrainer, tasks: int) -> float:
    """A_t as that release had it."""
    held_out = joined([task.held_out for task in trainer._stream.tasks[:tasks]])
    with torch.no_grad():
        told = [
            trainer._method.logits(trainer._model(to_unit(batch))).argmax(1)
            for batch in held_out.batches(FORWARD_BATCH)
        ]
    return float((torch.cat(told) == held_out.labels).double().mean())


@pytest.mark.parametrize("method", METHODS)
def test_no_bit_differs(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"data.tasks": 3}
    now, before = (SequentialTrainer(tiny(method, changes)) for _ in range(2))
    results = run(now)
    monkeypatch.setattr(trainer_module, "train_epochs", epochs_as_before)
    for result, other in zip(results, run(before), strict=True):
        assert result.metrics.get("train/loss") == other.metrics.get("train/loss")
        assert result.accuracy_row == other.accuracy_row
    assert same(now._state(), before._state())
    assert results[-1].metrics["val/accuracy"] == evaluated_as_before(now, 3)


@pytest.mark.parametrize("method", METHODS)
def test_losses_and_heads_are_those_of_the_release_before(method: str) -> None:
    """Up to rounding, which differs between processors."""
    trainer = trained(method, {"data.tasks": 2}, 1)
    loss = trainer.train_task().metrics.get("train/loss")
    heads = trainer._method.state_dict().get("heads")
    total = None if heads is None else float(sum(w.double().abs().sum() for w in heads["weights"]))
    for measured, pinned in zip((loss, total), PINNED[method], strict=True):
        assert measured == (None if pinned is None else pytest.approx(pinned, rel=1e-4))
