"""The epochs of one task: batches, in micro-batches where asked for, until nothing is finite."""

import math

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from trainables.backbones.adapted import AdaptedBackbone
from trainables.config_groups import OptimConfig
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.low_rank.precision import network_products
from trainables.method import Method, ParamGroup
from trainables.optimisation import create_optimizer, create_schedule


def train_epochs(
    model: AdaptedBackbone,
    method: Method,
    groups: list[ParamGroup],
    task: Task,
    train: TaskImages,
    optim: OptimConfig,
) -> float | None:
    """Runs all epochs; returns the mean loss of the last one, None if nothing is trained.

    Raises:
        FloatingPointError: if the mean loss of an epoch or the weights are no longer finite.
    """
    model.requires_grad_(False)
    trained = [one for group in groups for one in group.parameters]
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
        # Epochs after the first that is not finite would be in vain.
        _check_finite("the training loss", total / len(train), task, epoch)
    largest = torch.stack([one.detach().abs().max() for one in trained])
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


def _check_finite(what: str, values: Tensor, task: Task, epoch: int) -> None:
    flat = values.flatten()
    bad = flat[~torch.isfinite(flat)]
    if len(bad):
        raise FloatingPointError(
            f"{what} must be finite, but it is {float(bad[0])} in epoch {epoch + 1} of task "
            f"{task.index + 1}; a smaller optim.lr may help."
        )
