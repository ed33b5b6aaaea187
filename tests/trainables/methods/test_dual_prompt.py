"""DualPrompt: whose prompt and key a task trains, and where blocks stand."""

from typing import Any

import pytest
import torch

from tests.trainables.trials import tiny, trained
from trainables.methods.dual_prompt.config import DualPromptConfig
from trainables.trainer import SequentialTrainer

FEW = {"optim.epochs": 1, "data.train_per_class": 4}


def state_of(trainer: SequentialTrainer) -> dict[str, list[torch.Tensor]]:
    method: Any = trainer._method
    return {
        "general": [method.general.detach().clone()],
        "own": [prompt.detach().clone() for prompt in method.own],
        "keys": [key.detach().clone() for key in method.keys],
    }


@pytest.mark.parametrize("candidates", ["seen", "pool"])
def test_a_task_moves_its_own_prompt_and_key_and_what_all_share(candidates: str) -> None:
    trainer = trained("dual_prompt", {**FEW, "method.candidates": candidates}, 2)
    before = state_of(trainer)
    assert len(before["keys"]) == (2 if candidates == "seen" else 4)
    trainer.train_task()
    after = state_of(trainer)
    assert not torch.equal(before["general"][0], after["general"][0])
    for name in ("own", "keys"):
        for task, was in enumerate(before[name]):
            assert torch.equal(was, after[name][task]) == (task != 2)


@pytest.mark.parametrize(("carry", "candidates"), [(True, "pool"), (False, "pool"), (True, "seen")])
def test_a_prompt_starts_where_the_last_one_ended_and_a_key_does_not(
    carry: bool, candidates: str
) -> None:
    changes = {"method.carry": carry, "method.candidates": candidates}
    trainer = trained("dual_prompt", {**FEW, **changes}, 2)
    before = state_of(trainer)
    method: Any = trainer._method
    task = trainer._stream[2]
    method.begin_task(trainer._model, task, trainer._batches(task.train))
    after = state_of(trainer)
    assert torch.equal(after["own"][2], before["own"][1]) == carry
    if candidates == "pool":
        assert torch.equal(after["keys"][2], before["keys"][2])
    assert not any(torch.equal(after["keys"][2], key) for key in before["keys"][:2])


def test_only_what_a_task_trains_has_a_gradient() -> None:
    trainer = trained("dual_prompt", FEW, 1)
    method: Any = trainer._method
    task = trainer._stream[1]
    batches = trainer._batches(task.train)
    groups, _ = method.begin_task(trainer._model, task, batches)
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(True)
    images, labels = next(iter(batches.shuffled()))
    scored = method.forward(trainer._model, images, task)
    (method.loss(scored.logits, labels, task.classes) + scored.penalty).backward()
    assert [group.role for group in groups] == ["prompt", "head"]
    for parameter in (method.general, method.own[1], method.keys[1]):
        assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
    assert method.own[0].grad is None and method.keys[0].grad is None


def test_a_pool_of_fewer_prompts_than_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method.pool must be at least data.tasks = 4 or null"):
        tiny("dual_prompt", {"method.pool": 3})
    tiny("dual_prompt", {"method.pool": 4})


def test_untrained_keys_compete_where_asked() -> None:
    def columns(candidates: str) -> int:
        changes = {**FEW, "method.candidates": candidates, "method.pool": 7}
        metrics = trained("dual_prompt", changes, 1).train_task().metrics
        return sum(name.startswith("prompt/chosen/task_") for name in metrics)

    assert (columns("seen"), columns("pool")) == (2, 7)


@pytest.mark.parametrize(
    ("depth", "general", "own"),
    [(12, (0, 1), (2, 3, 4)), (4, (0, 1), (2, 3)), (3, (0,), (1, 2)), (2, (0,), (1,))],
)
def test_blocks_of_both_prompts_by_depth(
    depth: int, general: tuple[int, ...], own: tuple[int, ...]
) -> None:
    assert DualPromptConfig().blocks(depth) == (general, own)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.g_blocks": [2]}, r"method.g_blocks must be different numbers in \[0, 1\]"),
        ({"method.e_blocks": []}, r"method.e_blocks must be different numbers in \[0, 1\]"),
        ({"method.e_blocks": [0]}, r"method.e_blocks must be others than method.g_blocks \[0\]"),
        ({"method.split": "halves"}, "method.g_length must be even with method.split halves"),
        ({"method.e_length": 0}, "method.e_length must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("dual_prompt", changes)


@pytest.mark.parametrize(
    ("changes", "rows"),
    [({}, (5, 20)), ({"method.split": "halves", "method.g_length": 6}, (3, 10))],
)
def test_rows_of_keys_and_of_values(changes: dict[str, Any], rows: tuple[int, int]) -> None:
    """Of test_vit: a block each, width 16; a prompt and a key more with every task."""
    trainer = SequentialTrainer(tiny("dual_prompt", {**FEW, **changes}))
    general, own = (2 * count * 16 for count in rows)
    for task in range(1, 5):
        held = trainer.train_task().metrics["memory/prompt_bytes"]
        assert held == 4 * (general + task * (own + 16))
