"""Micro-batches: the same training with less memory at once."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.trainables.trials import run
from trainables import catalog, fitting
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer

MakeConfig = Callable[..., TrialConfig]
# Plain steps of gradient descent: Adam would turn rounding of a vanishing gradient into a step.
STEPS = {"optim.optimizer": "sgd", "optim.lr": 0.05, "optim.momentum": 0.5, "optim.head_lr": 0.05}


def numbers(state: Any) -> list[torch.Tensor]:
    """All tensors of floats in a checkpoint, in order."""
    if isinstance(state, torch.Tensor):
        return [state] if state.is_floating_point() else []
    if isinstance(state, dict):
        return [one for value in state.values() for one in numbers(value)]
    if isinstance(state, list | tuple):
        return [one for value in state for one in numbers(value)]
    return []


def trained(config: TrialConfig) -> SequentialTrainer:
    trainer = SequentialTrainer(config)
    run(trainer)
    return trainer


@pytest.mark.parametrize("method", catalog.methods())
def test_micro_batches_train_what_the_whole_batch_does(method: str, tiny: MakeConfig) -> None:
    changes = {**STEPS, "data.tasks": 2}
    whole = trained(tiny(method, changes))
    parts = trained(tiny(method, {**changes, "optim.micro_batch": 5}))
    for key in ("model", "method"):
        pairs = zip(numbers(whole._state()[key]), numbers(parts._state()[key]), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(other, one, rtol=2e-3, atol=2e-4)
    assert torch.equal(whole._generator.get_state(), parts._generator.get_state())


def test_a_micro_batch_as_large_as_the_batch_changes_no_bit(tiny: MakeConfig) -> None:
    whole = trained(tiny("sd_lora"))
    same = trained(tiny("sd_lora", {"optim.micro_batch": 16}))
    for one, other in zip(numbers(whole._state()), numbers(same._state()), strict=True):
        assert torch.equal(one, other)


def test_no_more_than_a_micro_batch_goes_through_the_network(
    tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
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
    assert max(sizes) == 5
    assert trainer.chunk == 5


def test_chunks_are_no_larger_than_the_task(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("sequential", {"optim.batch_size": 1000}))
    assert trainer.chunk == trainer.workload[0].new == 3 * 6


@pytest.mark.parametrize("size", [0, 17])
def test_a_micro_batch_out_of_range_is_refused(size: int, tiny: MakeConfig) -> None:
    rule = r"optim\.micro_batch must be in \[1, optim\.batch_size\] = \[1, 16\] or null"
    with pytest.raises(ValueError, match=rf"{rule}, but got {size}\."):
        tiny("sequential", {"optim.micro_batch": size})


def test_a_loss_that_is_not_finite_ends_training_at_once(
    tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    kept = fitting.backward

    def broken(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return kept(*arguments) * (float("nan") if len(calls) > 2 else 1.0)

    monkeypatch.setattr(fitting, "backward", broken)
    trainer = SequentialTrainer(tiny("sequential", {"optim.epochs": 5}))
    message = "training loss must be finite, but it is nan in epoch 2 of task 1; a smaller optim"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train_task()
    assert len(calls) == 2 * 2


def test_weights_that_are_not_finite_are_no_result(
    tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harmless(*arguments: Any) -> torch.Tensor:
        head = arguments[1]._heads.parameters()[0]
        head.grad = torch.full_like(head, float("inf"))
        return torch.zeros(())

    monkeypatch.setattr(fitting, "backward", harmless)
    trainer = SequentialTrainer(tiny("linear_heads", {"optim.optimizer": "sgd"}))
    with pytest.raises(
        FloatingPointError, match=r"largest weight must be finite, but it is (nan|inf)"
    ):
        trainer.train_task()


def test_a_weight_kept_between_forward_and_backward_does_not_outlive_the_step(
    tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fused optimizer's step counts no version of its own."""
    trainer = SequentialTrainer(tiny("sd_lora"))
    layer = next(iter(trainer._model.layers.values()))
    x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
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
    assert not any(torch.equal(one, other) for one, other in pairwise(seen[1:]))


@pytest.mark.parametrize("budget", ["task", "cumulative"])
def test_the_workload_counts_the_images_of_every_task(budget: str, tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("joint", {"method.budget": budget}))
    new = [one.new for one in trainer.workload]
    assert new == [18] * 4
    epochs = [one.epoch for one in trainer.workload]
    assert epochs == ([18] * 4 if budget == "task" else [18, 36, 54, 72])
    assert [one.held_out for one in trainer.workload] == [6, 12, 18, 24]
