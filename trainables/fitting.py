"""The epochs of one task: batches (or micro-batches), optimizer and schedule, loss kept finite."""

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from trainables.backbones.adapted import AdaptedBackbone
from trainables.config import OptimConfig
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.frozen import plain_queries
from trainables.low_rank.precision import network_products
from trainables.method import (
    Forward,
    Method,
    ParamGroup,
    Penalised,
    Prompting,
    Scored,
    Stage,
    Staged,
    TrainedApart,
    Updating,
)

# Scores of images and of their queries, where these are known.
Score: TypeAlias = Callable[[Tensor, Tensor | None], Scored]


def stages_of(
    method: Method, groups: list[ParamGroup], task: Task, optim: OptimConfig
) -> list[tuple[Stage, OptimConfig]]:
    """The trainings of a task, and how each is done: one of `groups` unless the method has several.

    A stage with epochs of its own has its own schedule over them.
    """
    stages = method.stages(task) if isinstance(method, Staged) else [Stage(groups)]
    return [
        (
            stage,
            optim
            if stage.epochs is None
            else replace(optim, epochs=stage.epochs, schedule=stage.schedule, milestones=()),
        )
        for stage in stages
    ]


def train_epochs(
    model: AdaptedBackbone,
    method: Method,
    groups: list[ParamGroup],
    task: Task,
    train: TaskImages,
    optim: OptimConfig,
    after_step: Callable[[], None] | None = None,
    forward: Forward | None = None,
) -> float | None:
    """Runs all epochs; returns the mean loss of the last one, None if nothing is trained.

    `after_step` is called after each step; it must change nothing and draw no random number.
    `forward` scores images in place of what the method does.
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
    score, queries = None, None
    if isinstance(method, Prompting):
        forward = forward or method.forward
        queries = known_queries(model, train)
    features = None if forward is not None else known_features(model, trained, train)
    seen: nn.Module = model if features is None else nn.Identity()
    if forward is not None:
        score = partial(_scored, forward, model, task)
    total = torch.zeros((), device=trained[0].device)
    for epoch in range(optim.epochs):
        total.zero_()
        for places, images, labels in train.drawn(features):
            known = None if queries is None else queries[places]
            batch = _Batch(seen, method, images, labels, task.classes, optim, score, known, trained)
            if isinstance(method, Updating):
                with torch.no_grad():
                    loss = method.step(optimizer, batch)
            else:
                loss = batch()
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
    model: nn.Module,
    method: Method,
    images: Tensor,
    labels: Tensor,
    classes: range,
    micro_batch: int | None,
    score: Score | None = None,
    queries: Tensor | None = None,
) -> Tensor:
    """Adds the gradients of a batch's mean loss to the parameters; returns that loss.

    `score` maps images and their `queries` (None: not known) in place of model and method.
    Micro-batches count by their share of the images: the loss of every method is a mean over
    images, or its config refuses them. The sum differs from the whole batch's by rounding.
    """
    if micro_batch is None or micro_batch >= len(labels):
        loss = _loss(model, method, images, labels, classes, score, queries)
        loss.backward()
        return loss.detach()
    mean = torch.zeros((), device=images.device)
    known = repeat(None) if queries is None else queries.split(micro_batch)
    parts = zip(images.split(micro_batch), labels.split(micro_batch), known, strict=False)
    for some, theirs, own in parts:
        share = len(theirs) / len(labels)
        loss = share * _loss(model, method, some, theirs, classes, score, own)
        loss.backward()
        mean += loss.detach()
    return mean


@dataclass(frozen=True)
class _Batch:
    """The images of a batch, whose gradients an update rule asks for; see `Backward`."""

    model: nn.Module
    method: Method
    images: Tensor
    labels: Tensor
    classes: range
    optim: OptimConfig
    score: Score | None
    queries: Tensor | None
    trained: list[nn.Parameter]

    def __call__(self, places: Tensor | None = None) -> Tensor:
        for parameter in self.trained:
            parameter.grad = None
        images, labels, queries = self.images, self.labels, self.queries
        if places is not None:
            images, labels = images[places], labels[places]
            queries = None if queries is None else queries[places]
        with torch.enable_grad(), network_products(images.device):
            loss = backward(
                self.model,
                self.method,
                images,
                labels,
                self.classes,
                self.optim.micro_batch,
                self.score,
                queries,
            )
        if self.optim.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained, self.optim.clip_norm)
        return loss


def known_queries(model: AdaptedBackbone, train: TaskImages) -> Tensor | None:
    """Queries (n, width) of all images of a task, where training never changes these."""
    return plain_queries(model, train) if train.augmentation == "none" else None


def known_features(
    model: AdaptedBackbone, trained: list[nn.Parameter], train: TaskImages
) -> Tensor | None:
    """Features (n, width) of all images of a task, where training never changes these.

    None as well where the network is no longer the pretrained one: nothing keeps its features.
    """
    if train.augmentation != "none" or train.frozen is None or not train.frozen.holds():
        return None
    of_network = {id(parameter) for parameter in model.parameters()}
    return None if any(id(own) in of_network for own in trained) else train.frozen.of(train.data)


def create_optimizer(groups: list[ParamGroup], config: OptimConfig) -> torch.optim.Optimizer:
    """Builds the optimizer: each group with the rate and the decay of its role.

    It is fused: one call for all parameters, in place of several for each.
    """
    rates = {"alpha": config.alpha_lr, "head": config.head_lr, "prompt": config.prompt_lr}
    decays = {"alpha": config.alpha_weight_decay}
    settings: list[dict[str, Any]] = [
        {
            "params": group.parameters,
            "lr": _first(group.lr, _first(rates.get(group.role), config.lr)),
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
        return _released_cosine(epoch - 1, config.epochs)
    if config.schedule == "released_cosine_once":
        return _released_cosine(epoch, config.epochs)
    return 1.0


def _released_cosine(epoch: int, epochs: int) -> float:
    """cos(99π e / (200 (K − 1))) with e from 0 to K − 1, which any other epoch is brought to."""
    if epochs == 1:
        return 1.0
    # After the last epoch the schedule is stepped once more, for nobody.
    taken = min(max(epoch, 0), epochs - 1)
    return math.cos(99.0 * math.pi * taken / (200.0 * (epochs - 1)))


def _scored(
    forward: Forward, model: AdaptedBackbone, task: Task, images: Tensor, queries: Tensor | None
) -> Scored:
    return forward(model, images, task, queries)


def _loss(
    model: nn.Module,
    method: Method,
    images: Tensor,
    labels: Tensor,
    classes: range,
    score: Score | None,
    queries: Tensor | None,
) -> Tensor:
    """The mean loss of images."""
    if score is None:
        scores = method.trained_logits if isinstance(method, TrainedApart) else method.logits
        features = model(images)
        loss = method.loss(scores(features), labels, classes)
        return loss + method.penalty(features, labels) if isinstance(method, Penalised) else loss
    scored = score(images, queries)
    return method.loss(scored.logits, labels, classes) + scored.penalty


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
