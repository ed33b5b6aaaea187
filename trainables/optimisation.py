"""Optimizer and learning-rate schedule of one task, from the groups that a method gives."""

import bisect
import math
from typing import Any

import torch

from trainables.config_groups import OptimConfig
from trainables.method import ParamGroup


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
