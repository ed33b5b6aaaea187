import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from trainables.config import OptimConfig
from trainables.fitting import create_optimizer, create_schedule, learning_rate_factor
from trainables.method import ParamGroup

ROLES = ("up", "alpha", "head", "backbone", "prompt")


def groups(*roles: Any) -> list[ParamGroup]:
    return [ParamGroup(role, [torch.nn.Parameter(torch.ones(2))]) for role in roles]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schedule": "step", "epochs": 6, "milestones": (4, 2), "step_factor": 0.1},
         [1, 1, 0.1, 0.1, 0.01, 0.01]),
        # A milestone beyond the last epoch is never reached.
        ({"schedule": "step", "epochs": 3, "milestones": (3,), "step_factor": 0.5}, [1, 1, 1]),
        ({"schedule": "released_cosine", "epochs": 1}, [1]),
        ({"schedule": "released_cosine", "epochs": 2}, [1, 1]),
        # InfLoRA's: lr · cos(99π e / (200 (K − 1))), whose first value comes twice, so that the
        # last, all but zero, is never used.
        ({"schedule": "released_cosine", "epochs": 5},
         [1, *(math.cos(99 * math.pi * epoch / 800) for epoch in range(4))]),
        # CODA-Prompt's: each value once, the last too.
        ({"schedule": "released_cosine_once", "epochs": 5},
         [math.cos(99 * math.pi * epoch / 800) for epoch in range(5)]),
        ({"schedule": "released_cosine_once", "epochs": 1}, [1]),
        ({"schedule": "constant", "epochs": 5}, [1] * 5),
    ],
)  # fmt: skip
def test_the_factor_of_all_steps_of_each_epoch(
    fields: dict[str, Any], expected: list[float]
) -> None:
    config, batches = OptimConfig(**fields), 3
    for epoch, factor in enumerate(expected):
        for step in range(epoch * batches, (epoch + 1) * batches):
            assert learning_rate_factor(config, step, batches) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(
    ("epochs", "epoch", "factor"),
    [(20, 0, 1), (20, 1, 0.996652), (20, 10, 0.683341), (20, 19, 0.015707), (50, 25, 0.701417)],
)
def test_the_released_cosine_by_hand(epochs: int, epoch: int, factor: float) -> None:
    config = OptimConfig(schedule="released_cosine_once", epochs=epochs)
    assert learning_rate_factor(config, epoch, 1) == pytest.approx(factor, abs=1e-6)


def test_the_cosine_falls_step_by_step_and_ends_at_zero() -> None:
    config = OptimConfig(schedule="cosine", epochs=5)
    factors = [learning_rate_factor(config, step, 2) for step in (0, 5, 10)]
    assert factors == pytest.approx([1.0, 0.5, 0.0])


def test_the_schedule_acts_on_all_rates_step_by_step() -> None:
    config = OptimConfig(
        optimizer="sgd", schedule="step", epochs=2, milestones=(1,), lr=0.4, head_lr=4.0
    )
    optimizer = create_optimizer(groups("up", "head"), config)
    schedule = create_schedule(optimizer, config, 2)
    seen = []
    for _ in range(4):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert seen == [[0.4, 4.0], [0.4, 4.0], pytest.approx([0.04, 0.4]), pytest.approx([0.04, 0.4])]


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_each_role_has_its_rate_and_decay(kind: Any) -> None:
    def settings(**fields: Any) -> list[tuple[float, float]]:
        optimizer = create_optimizer(groups(*ROLES), OptimConfig(optimizer=kind, lr=0.5, **fields))
        return [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]

    assert settings(weight_decay=0.1, head_lr=None) == [(0.5, 0.1)] * 5
    rates = {"alpha_lr": 2.0, "head_lr": 3.0, "prompt_lr": 4.0}
    own = settings(weight_decay=0.1, alpha_weight_decay=0.0, **rates)
    assert own == [(0.5, 0.1), (2.0, 0.0), (3.0, 0.1), (0.5, 0.1), (4.0, 0.1)]
    decayed = settings(alpha_weight_decay=0.2, head_lr=None)
    assert decayed == [(0.5, 0.0), (0.5, 0.2), (0.5, 0.0), (0.5, 0.0), (0.5, 0.0)]


def test_a_group_with_a_rate_of_its_own_has_that_one() -> None:
    (group,) = groups("head")
    optimizer = create_optimizer([replace(group, lr=7.0)], OptimConfig(head_lr=3.0))
    assert [group["lr"] for group in optimizer.param_groups] == [7.0]


def test_momentum_is_sgds_and_an_empty_group_is_left_out() -> None:
    both = [*groups("up"), ParamGroup("alpha", [])]
    optimizer = create_optimizer(both, OptimConfig(optimizer="sgd", momentum=0.7))
    assert [group["momentum"] for group in optimizer.param_groups] == [0.7]
