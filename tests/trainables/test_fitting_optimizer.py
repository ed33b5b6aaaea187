import math
from typing import Any

import pytest
import torch

from trainables.config import OptimConfig
from trainables.fitting import create_optimizer, create_schedule, learning_rate_factor
from trainables.method import ParamGroup

ROLES = ("up", "alpha", "head", "backbone")


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

    assert settings(weight_decay=0.1, head_lr=None) == [(0.5, 0.1)] * 4
    own = settings(weight_decay=0.1, alpha_weight_decay=0.0, alpha_lr=2.0, head_lr=3.0)
    assert own == [(0.5, 0.1), (2.0, 0.0), (3.0, 0.1), (0.5, 0.1)]
    decayed = settings(alpha_weight_decay=0.2, head_lr=None)
    assert decayed == [(0.5, 0.0), (0.5, 0.2), (0.5, 0.0), (0.5, 0.0)]


def test_momentum_is_sgds_and_an_empty_group_is_left_out() -> None:
    both = [*groups("up"), ParamGroup("alpha", [])]
    optimizer = create_optimizer(both, OptimConfig(optimizer="sgd", momentum=0.7))
    assert [group["momentum"] for group in optimizer.param_groups] == [0.7]
