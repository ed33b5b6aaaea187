"""Micro-batches: the same training with less memory at once."""

import math
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tests.trainables.draws import seeded
from tests.trainables.trials import same, tiny, trained
from trainables import fitting
from trainables.config import catalog
from trainables.trainer import SequentialTrainer

# Plain steps of gradient descent: Adam would turn rounding of a vanishing gradient into a step.
STEPS = {"optim.optimizer": "sgd", "optim.lr": 0.05, "optim.momentum": 0.5, "optim.head_lr": 0.05}


def numbers(state: Any) -> list[torch.Tensor]:
    """All tensors of floats in a checkpoint, in order."""
    if isinstance(state, torch.Tensor):
        return [state] if state.is_floating_point() else []
    if isinstance(state, dict):
        return numbers(list(state.values()))
    if isinstance(state, list | tuple):
        return [tensor for value in state for tensor in numbers(value)]
    return []


@pytest.mark.parametrize("method", catalog.methods())
def test_micro_batches_train_what_the_whole_batch_does(method: str) -> None:
    changes = {**STEPS, "data.tasks": 2}
    if method == "hide_prompt":
        # With this term the loss is no mean over images, and micro-batches are refused.
        changes["method.contrastive"] = 0.0
    if method == "lora_drs":
        changes["method.triplet"] = 0.0
    if method == "ranpac":
        # A regression with a small ridge magnifies how its features were rounded.
        changes["method.head_ridge_powers"] = (1,)
    whole, parts = trained(method, changes), trained(method, {**changes, "optim.micro_batch": 5})
    for key in ("model", "method"):
        pairs = zip(numbers(whole._state()[key]), numbers(parts._state()[key]), strict=True)
        for expected, other in pairs:
            torch.testing.assert_close(other, expected, rtol=2e-3, atol=2e-4)
    assert torch.equal(whole._generator.get_state(), parts._generator.get_state())


def test_a_micro_batch_as_large_as_the_batch_changes_no_bit() -> None:
    whole = trained("sd_lora")._state()
    other = trained("sd_lora", {"optim.micro_batch": 16})._state()
    assert whole.pop("params") != other.pop("params") and same(whole, other)


def test_no_more_than_a_micro_batch_goes_through_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = SequentialTrainer(tiny("sequential", {"optim.micro_batch": 5}))
    sizes = set()
    forward = trainer._model.forward

    def watched(images: torch.Tensor) -> Any:
        if torch.is_grad_enabled():
            sizes.add(len(images))
        return forward(images)

    monkeypatch.setattr(trainer._model, "forward", watched)
    trainer.train_task()
    assert max(sizes) == trainer.chunk == 5


@pytest.mark.parametrize("size", [0, 17])
def test_a_micro_batch_out_of_range_is_refused(size: int) -> None:
    rule = r"optim\.micro_batch must be in \[1, optim\.batch_size\] = \[1, 16\] or null"
    with pytest.raises(ValueError, match=rf"{rule}, but got {size}\."):
        tiny("sequential", {"optim.micro_batch": size})


def test_a_loss_that_is_not_finite_ends_training_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Mock(side_effect=[torch.tensor(loss) for loss in (1.0, 1.0, math.nan, 1.0)])
    monkeypatch.setattr(fitting, "backward", losses)
    message = "training loss must be finite, but it is nan in epoch 2 of task 1; a smaller optim"
    with pytest.raises(FloatingPointError, match=message):
        trained("linear_heads", {"optim.optimizer": "sgd", "optim.epochs": 5})
    assert losses.call_count == 2 * 2


def test_weights_that_are_not_finite_are_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def harmless(*arguments: Any) -> torch.Tensor:
        head = arguments[1]._heads.parameters()[0]
        head.grad = torch.full_like(head, float("inf"))
        return torch.zeros(())

    monkeypatch.setattr(fitting, "backward", harmless)
    message = r"largest weight must be finite, but it is (nan|inf)"
    with pytest.raises(FloatingPointError, match=message):
        trained("linear_heads", {"optim.optimizer": "sgd"})


def test_a_weight_kept_between_forward_and_backward_does_not_outlive_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fused optimizer's step counts no version of its own."""
    trainer = SequentialTrainer(tiny("sd_lora"))
    layer = next(iter(trainer._model.layers.values()))
    x = torch.randn(3, layer.in_features, generator=seeded())
    seen: list[torch.Tensor] = []

    def interrupted(model: Any, method: Any, images: Any, labels: Any, *more: Any) -> torch.Tensor:
        with torch.no_grad():
            seen.append(layer(x))
            expected = torch.nn.functional.linear(x, layer.weight + layer.delta(), layer.base.bias)
            torch.testing.assert_close(seen[-1], expected, rtol=1e-5, atol=1e-6)
        loss = method.loss(method.logits(model(images)), labels, more[0])
        with torch.no_grad():
            layer(x)
        loss.backward()
        return torch.as_tensor(loss.detach())

    monkeypatch.setattr(fitting, "backward", interrupted)
    trainer.train_task()
    assert len(seen) == 2 * 2
    assert not any(torch.equal(output, other) for output, other in pairwise(seen[1:]))


@pytest.mark.parametrize(
    ("budget", "epochs"), [("task", [18] * 4), ("cumulative", [18, 36, 54, 72])]
)
def test_the_workload_counts_the_images_of_every_task(budget: str, epochs: list[int]) -> None:
    trainer = SequentialTrainer(tiny("joint", {"method.budget": budget, "optim.batch_size": 1000}))
    assert [load.new for load in trainer.workload] == [18] * 4
    assert [load.epoch for load in trainer.workload] == epochs
    assert [load.held_out for load in trainer.workload] == [6, 12, 18, 24]
    assert [load.diagnosed for load in trainer.workload] == [0] * 4
    # No more go through the network at once than there are.
    assert trainer.chunk == 18


def test_a_confirmation_s_workload_counts_what_is_only_measured() -> None:
    """Looks at 30, 60, 90 test images, 2 · ⌈24/16⌉ steps a task; at the end 96 training images."""
    watched = {"data.evaluation": "test", "evaluation.during": 3}
    trainer = SequentialTrainer(tiny("inflora", watched))
    assert [load.diagnosed for load in trainer.workload] == [0, 30, 60, 90 + 96]
