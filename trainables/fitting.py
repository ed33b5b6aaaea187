"""The epochs of one task: batches (or micro-batches), optimizer and schedule, loss kept finite."""

import bisect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from trainables.backbones.adapted import AdaptedBackbone
from trainables.config import OptimConfig
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.low_rank.precision import network_products
from trainables.method import Method, ParamGroup


def train_epochs(
    model: AdaptedBackbone,
    method: Method,
    groups: list[ParamGroup],
    task: Task,
    train: TaskImages,
    optim: OptimConfig,
    after_step: Callable[[], None] | None = None,
) -> float | None:
    """Runs all epochs; returns the mean loss of the last one, None if nothing is trained.

    `after_step` is called after each step; it must change nothing and draw no random number.
    FloatingPointError if the mean loss of an epoch or the weights are no longer finite.
    """
    model.requires_grad_(False)
    trained = [parameter for group in groups for parameter in group.parameters]
    if not trained:
        return None
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = create_optimizer(groups, optim)
    schedule = create_schedule(optimizer, optim, math.ceil(len(train) / optim.batch_size))
    total = torch.zeros((), device=trained[0].device)
    for epoch in range(optim.epochs):
        total.zero_()
        for images, labels in train.shuffled():
            optimizer.zero_grad(set_to_none=True)
            with network_products(images.device):
                loss = backward(model, method, images, labels, task.classes, optim.micro_batch)
            optimizer.step()
            # Fused optimizers do not: what is kept of a weight tells by its version.
            increment_version(trained)
            schedule.step()
            total += loss * len(labels)
            if after_step is not None:
                after_step()
        # Epochs after the first that is not finite would be in vain.
        _check_finite("the training loss", total / len(train), task, epoch)
    largest = torch.stack([parameter.detach().abs().max() for parameter in trained])
    _check_finite("the largest weight", largest, task, epoch)
    for parameter in trained:
        parameter.requires_grad_(False)
        parameter.grad = None
    return float(total) / len(train)


def backward(
    model: AdaptedBackbone,
    method: Method,
    images: Tensor,
    labels: Tensor,
    classes: range,
    micro_batch: int | None,
) -> Tensor:
    """Adds the gradients of a batch's mean loss to the parameters; returns that loss.

    Micro-batches count by their share of the images: the loss of every method is a mean over
    images. The sum differs from the whole batch's by rounding.
    """
    if micro_batch is None or micro_batch >= len(labels):
        loss = method.loss(method.logits(model(images)), labels, classes)
        loss.backward()
        return loss.detach()
    mean = torch.zeros((), device=images.device)
    for some, theirs in zip(images.split(micro_batch), labels.split(micro_batch), strict=True):
        share = len(theirs) / len(labels)
        loss = share * method.loss(method.logits(model(some)), theirs, classes)
        loss.backward()
        mean += loss.detach()
    return mean


def create_optimizer(groups: list[ParamGroup], config: OptimConfig) -> torch.optim.Optimizer:
    """Builds the optimizer: each group with the rate and the decay of its role.

    It is fused: one call for all parameters, in place of several for each.
    """
    rates = {"alpha": config.alpha_lr, "head": config.head_lr}
    decays = {"alpha": config.alpha_weight_decay}
    settings: list[dict[str, Any]] = [
        {
            "params": group.parameters,
            "lr": _first(rates.get(group.role), config.lr),
            "weight_decay": _first(decays.get(group.role), config.weight_decay),
        }
        for group in groups
        if group.parameters
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=config.lr, momentum=config.momentum, fused=True)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(settings, lr=config.lr, fused=True)


def create_schedule(
    optimizer: torch.optim.Optimizer, config: OptimConfig, batches: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Builds the schedule, to be stepped after each of the `batches` batches of every epoch."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(config, step, batches)
    )


def learning_rate_factor(config: OptimConfig, step: int, batches: int) -> float:
    """Factor on all learning rates at `step` (from 0), with `batches` steps in an epoch."""
    epoch = step // batches
    if config.schedule == "cosine":
        steps = config.epochs * batches
        return 0.5 * (1.0 + math.cos(math.pi * min(step, steps) / steps))
    if config.schedule == "step":
        # A milestone that is named twice counts twice.
        return config.step_factor ** bisect.bisect_right(sorted(config.milestones), epoch)
    if config.schedule == "released_cosine":
        return _released_cosine(epoch, config.epochs)
    return 1.0


def _released_cosine(epoch: int, epochs: int) -> float:
    """f(e) = cos(99π e / (200 (K − 1))); the K epochs take f(0), f(0), f(1), …, f(K − 2)."""
    if epochs == 1:
        return 1.0
    # After the last epoch the schedule is stepped once more, for nobody.
    taken = min(max(epoch - 1, 0), epochs - 1)
    return math.cos(99.0 * math.pi * taken / (200.0 * (epochs - 1)))


def _first(own: float | None, common: float) -> float:
    return common if own is None else own


def _check_finite(what: str, values: Tensor, task: Task, epoch: int) -> None:
    flat = values.flatten()
    bad = flat[~torch.isfinite(flat)]
    if len(bad):
        raise FloatingPointError(
            f"{what} must be finite, but it is {float(bad[0])} in epoch {epoch + 1} of task "
            f"{task.index + 1}; a smaller optim.lr may help."
        )
