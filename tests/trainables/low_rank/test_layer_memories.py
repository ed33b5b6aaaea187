import logging

import pytest
import torch
from torch import Tensor

from trainables.low_rank.down_init import STRATEGIES
from trainables.low_rank.dual_gpm import DualGPM
from trainables.low_rank.layer_memories import LayerMemories, OnExhaustion

WIDTHS = {"layer_00": 6, "layer_01": 24}
RANK = 4


def build(policy: OnExhaustion, dual: bool = True) -> LayerMemories:
    memories = {name: DualGPM(width, dual=dual) for name, width in WIDTHS.items()}
    return LayerMemories(memories, RANK, policy)


def moments(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, width in WIDTHS.items():
        inputs = torch.randn(80, width, generator=generator, dtype=torch.float64)
        # Every task has other leading directions.
        mixing, _ = torch.linalg.qr(inputs[:width])
        inputs = inputs * 0.8 ** torch.arange(width) @ mixing
        found[name] = inputs.T @ inputs / 80
    return found


def design(memories: LayerMemories, seed: int, strategy: str = "designed") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return memories.design(STRATEGIES[strategy], moments(seed), {}, generator)


@pytest.mark.parametrize("dual", [True, False])
@pytest.mark.parametrize("policy", ["clip", "freeze", "relax", "released"])
def test_each_policy_over_sixty_tasks(policy: OnExhaustion, dual: bool) -> None:
    memories = build(policy, dual)
    for task in range(60):
        free, _, _ = memories.dimensions()
        for name, rows in design(memories, task).items():
            there = int(free[name])
            expected = {
                "clip": min(RANK, there),
                "freeze": RANK if there >= RANK else 0,
                "relax": RANK,
                "released": RANK,
            }[policy]
            assert rows.shape == (expected, WIDTHS[name])
            torch.testing.assert_close(rows @ rows.T, torch.eye(expected, dtype=rows.dtype))
            if policy != "released" and task and expected:
                assert memories[name].angle(rows) == pytest.approx(90, abs=1e-4)
        effective = memories.absorb(moments(task), 0.9 + 0.1 * task / 60, task + 1)
        lowered = any(one < 0.9 + 0.1 * task / 60 for one in effective.values())
        assert policy == "relax" or not lowered
    # The alarm rings under "relax" as well, though it keeps free what is asked for.
    free, used, exhausted = memories.dimensions()
    assert exhausted == dict.fromkeys(WIDTHS, True)
    assert all((one >= RANK) == (policy == "relax") for one in free.values())
    assert {name: free[name] + used[name] for name in WIDTHS} == WIDTHS
    assert set(free.values()) == {RANK if policy == "relax" else 0}


def test_released_rows_are_arbitrary_only_beyond_the_designed_ones() -> None:
    clip, released = build("clip"), build("released")
    for task in range(12):
        valid, all_rows = design(clip, task), design(released, task)
        for name, rows in valid.items():
            assert torch.equal(all_rows[name][: len(rows)], rows)
        for memories in (clip, released):
            memories.absorb(moments(task), 0.99, task + 1)
    assert len(design(clip, 12)["layer_00"]) == 0
    angle = released["layer_00"].angle(design(released, 12)["layer_00"])
    assert angle == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("strategy", ["gaussian", "orthonormal", "principal"])
def test_what_ignores_the_memory_feels_freeze_alone(strategy: str) -> None:
    for policy, expected in (("clip", RANK), ("released", RANK), ("freeze", 0)):
        memories = build(policy)  # type: ignore[arg-type]
        for task in range(30):
            memories.absorb(moments(task), 0.999, task + 1)
        assert len(design(memories, 30, strategy)["layer_00"]) == expected


def test_warns_once_in_a_trial_and_not_again_after_a_restore(
    caplog: pytest.LogCaptureFixture,
) -> None:
    memories = build("freeze")
    with caplog.at_level(logging.WARNING, logger="trainables.low_rank.layer_memories"):
        for task in range(20):
            memories.absorb(moments(task), 0.99, task + 1)
        resumed = build("freeze")
        resumed.load_state_dict(memories.state_dict())
        resumed.absorb(moments(20), 0.99, 21)
    (record,) = caplog.records
    message = record.getMessage()
    assert "layer_00" in message and "freeze" in message
    assert "After task" in message and "rank 4" in message


def test_relaxing_warns_as_well(caplog: pytest.LogCaptureFixture) -> None:
    memories = build("relax")
    with caplog.at_level(logging.WARNING, logger="trainables.low_rank.layer_memories"):
        for task in range(20):
            memories.absorb(moments(task), 0.99, task + 1)
    assert len(caplog.records) == 1
