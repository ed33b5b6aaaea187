"""Methods with an update rule of their own: what `step` is given; others stay as they are."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.trials import same, tiny
from trainables.method import Backward, Updating
from trainables.trainer import SequentialTrainer

Step = Callable[[torch.optim.Optimizer, Backward], Tensor]


def updated(step: Step, changes: dict[str, Any] | None = None) -> SequentialTrainer:
    """One task of sequential LoRA with an update rule, named like that of a method."""
    trainer = SequentialTrainer(tiny("sequential_lora", changes))
    assert not isinstance(trainer._method, Updating)
    trainer._method.step = step  # type: ignore[attr-defined]
    assert isinstance(trainer._method, Updating)
    trainer.train_task()
    return trainer


def plain(optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
    loss = backward()
    optimizer.step()
    return loss


def gradients(optimizer: torch.optim.Optimizer) -> Tensor:
    parts = [part for group in optimizer.param_groups for part in group["params"]]
    return torch.cat([part.grad.flatten() for part in parts])


@pytest.mark.parametrize(
    "changes", [{}, {"optim.micro_batch": 5, "optim.clip_norm": 0.1}], ids=["whole", "split"]
)
def test_the_plain_step_as_a_rule_is_the_step_of_methods_without_one(
    changes: dict[str, Any],
) -> None:
    without = SequentialTrainer(tiny("sequential_lora", changes))
    without.train_task()
    assert same(updated(plain, changes)._state(), without._state())


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_gradients_of_parts_add_up_to_those_of_the_batch(micro_batch: int | None) -> None:
    """By numbers of rows and by flags; each time in place of the last."""

    def step(optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
        first = backward.labels == backward.labels[0]
        rest = (~first).nonzero()[:, 0]
        share = float(first.float().mean())
        own, some = backward(first), gradients(optimizer)
        other, others = backward(rest), gradients(optimizer)
        loss = backward()
        expected = share * some + (1 - share) * others
        torch.testing.assert_close(gradients(optimizer), expected, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(loss, share * own + (1 - share) * other)
        optimizer.step()
        return loss

    updated(step, {"optim.micro_batch": micro_batch, "data.augmentation": "none"})


def test_each_backward_is_clipped_and_the_rates_are_those_of_the_batch() -> None:
    norms, rates = [], []

    def step(optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
        assert not torch.is_grad_enabled()
        for places in (None, torch.tensor([0, 1])):
            loss = backward(places)
            norms.append(float(gradients(optimizer).norm()))
            optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        return loss

    updated(step, {"optim.clip_norm": 0.01, "optim.lr": 0.1})
    assert norms == pytest.approx([0.01] * 8, rel=1e-3)
    # The cosine over 2 epochs of 2 batches moves on once a batch, after any number of steps.
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * at / 4)) for at in range(4)])


def test_a_tensor_moved_between_two_backwards_is_what_the_second_sees() -> None:
    """As methods do that take a gradient beside the weights and go back."""
    moved = []

    def step(optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
        parts = [part for group in optimizer.param_groups for part in group["params"]]
        before = [part.clone() for part in parts]
        here, there = backward(), None
        gradient = gradients(optimizer)
        for part in parts:
            part -= 0.1 * part.grad
        there = backward()
        moved.append((float(here), float(there), float(gradient.square().sum())))
        for part, start in zip(parts, before, strict=True):
            part.copy_(start)
        torch.testing.assert_close(backward(), here)
        optimizer.step()
        return here

    updated(step, {"data.augmentation": "none"})
    assert all(there < here - 0.05 * square for here, there, square in moved)
