import pytest
import torch
from torch import Tensor

from tests.trainables.draws import normal, seeded
from trainables.low_rank.down_init import STRATEGIES
from trainables.low_rank.dual_gpm import DualGPM
from trainables.low_rank.layer_memories import LayerMemories, OnExhaustion

WIDTHS = {"layer_00": 6, "layer_01": 24}
RANK = 4


def build(policy: OnExhaustion, dual: bool = True) -> LayerMemories:
    memories = {name: DualGPM(width, dual=dual) for name, width in WIDTHS.items()}
    return LayerMemories(memories, RANK, policy)


def moments(seed: int) -> dict[str, Tensor]:
    generator = seeded(seed)
    by_layer = {}
    for name, width in WIDTHS.items():
        inputs = normal(80, width, seed=generator)
        # Every task has other leading directions.
        mixing, _ = torch.linalg.qr(inputs[:width])
        inputs = inputs * 0.8 ** torch.arange(width) @ mixing
        by_layer[name] = inputs.T @ inputs / 80
    return by_layer


def design(memories: LayerMemories, seed: int, strategy: str = "designed") -> dict[str, Tensor]:
    return memories.design(STRATEGIES[strategy], moments(seed), {}, seeded(seed))


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
        lowered = any(threshold < 0.9 + 0.1 * task / 60 for threshold in effective.values())
        assert policy == "relax" or not lowered
    # The alarm rings under "relax" as well, though it keeps free what is asked for.
    free, used, exhausted = memories.dimensions()
    assert exhausted == dict.fromkeys(WIDTHS, True)
    assert all((dim >= RANK) == (policy == "relax") for dim in free.values())
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


@pytest.mark.parametrize("policy", ["freeze", "relax"])
def test_warns_once_in_a_trial_and_not_again_after_a_restore(
    policy: OnExhaustion, caplog: pytest.LogCaptureFixture
) -> None:
    memories, resumed = build(policy), build(policy)
    for task in range(20):
        memories.absorb(moments(task), 0.99, task + 1)
    resumed.load_state_dict(memories.state_dict())
    resumed.absorb(moments(20), 0.99, 21)
    (record,) = caplog.records
    message = record.getMessage()
    assert all(part in message for part in ("layer_00", policy, "After task", "rank 4"))
