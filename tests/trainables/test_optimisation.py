import math
from typing import Any

import pytest
import torch

from trainables.config import OptimConfig
from trainables.method import ParamGroup
from trainables.optimisation import create_optimizer, create_schedule, learning_rate_factor


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(2))


def by_epoch(batches: int, **fields: Any) -> list[float]:
    """The factor of every step; one list entry an epoch where it is the same in all steps."""
    config = OptimConfig(**fields)
    factors = []
    for epoch in range(config.epochs):
        steps = range(epoch * batches, (epoch + 1) * batches)
        (factor,) = {learning_rate_factor(config, step, batches) for step in steps}
        factors.append(factor)
    return factors


def test_the_cosine_ends_at_zero_and_the_constant_does_not() -> None:
    factors = {}
    for schedule in ("cosine", "constant"):
        config = OptimConfig(schedule=schedule, epochs=5)
        factors[schedule] = [learning_rate_factor(config, step, 2) for step in (0, 5, 10)]
    assert factors["cosine"] == pytest.approx([1.0, 0.5, 0.0])
    assert factors["constant"] == [1.0, 1.0, 1.0]


def test_steps_fall_at_the_start_of_their_epochs() -> None:
    factors = by_epoch(3, schedule="step", epochs=6, milestones=(4, 2), step_factor=0.1)
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_milestone_beyond_the_last_epoch_is_never_reached() -> None:
    assert by_epoch(2, schedule="step", epochs=3, milestones=(3,), step_factor=0.5) == [1, 1, 1]


def test_the_released_cosine_uses_its_first_value_twice_and_never_ends() -> None:
    """InfLoRA's: lr · cos(99π e / (200 (K − 1))), so that the last epoch takes f(K − 2)."""
    factors = by_epoch(4, schedule="released_cosine", epochs=5)
    whole = [math.cos(99 * math.pi * e / 800) for e in range(5)]
    assert factors == pytest.approx([whole[0], *whole[:4]])
    assert factors[0] == factors[1] == 1.0
    # The value that is never used is all but zero.
    assert whole[4] < 0.02 < factors[4]


@pytest.mark.parametrize(("epochs", "expected"), [(1, [1.0]), (2, [1.0, 1.0])])
def test_the_released_cosine_of_few_epochs_is_constant(epochs: int, expected: list[float]) -> None:
    assert by_epoch(3, schedule="released_cosine", epochs=epochs) == expected


def test_the_schedule_acts_on_all_rates_step_by_step() -> None:
    config = OptimConfig(
        optimizer="sgd", schedule="step", epochs=2, milestones=(1,), lr=0.4, head_lr=4.0
    )
    groups = [ParamGroup("up", [parameter()]), ParamGroup("head", [parameter()])]
    optimizer = create_optimizer(groups, config)
    schedule = create_schedule(optimizer, config, 2)
    seen = []
    for _ in range(4):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert seen == [[0.4, 4.0], [0.4, 4.0], pytest.approx([0.04, 0.4]), pytest.approx([0.04, 0.4])]


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_each_role_has_its_rate_and_decay(kind: str) -> None:
    groups = [ParamGroup(role, [parameter()]) for role in ("up", "alpha", "head", "backbone")]

    def settings(**fields: Any) -> list[tuple[float, float]]:
        optimizer = create_optimizer(
            groups, OptimConfig(**{"optimizer": kind, "lr": 0.5, **fields})
        )
        return [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]

    assert settings(weight_decay=0.1, head_lr=None) == [(0.5, 0.1)] * 4
    own = settings(weight_decay=0.1, alpha_weight_decay=0.0, alpha_lr=2.0, head_lr=3.0)
    assert own == [(0.5, 0.1), (2.0, 0.0), (3.0, 0.1), (0.5, 0.1)]
    decayed = settings(alpha_weight_decay=0.2, head_lr=None)
    assert decayed == [(0.5, 0.0), (0.5, 0.2), (0.5, 0.0), (0.5, 0.0)]


def test_momentum_is_sgds_and_an_empty_group_is_left_out() -> None:
    groups = [ParamGroup("up", [parameter()]), ParamGroup("alpha", [])]
    optimizer = create_optimizer(groups, OptimConfig(optimizer="sgd", momentum=0.7))
    assert [group["momentum"] for group in optimizer.param_groups] == [0.7]
