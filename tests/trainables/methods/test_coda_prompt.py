"""CODA-Prompt: components of each task, and what stays of those before."""

from typing import Any

import pytest
import torch

from tests.trainables.trials import results_of, tiny, trained
from trainables.config import TrialConfig
from trainables.methods.coda_prompt.config import CODAPromptConfig
from trainables.trainer import SequentialTrainer

FEW = {"optim.epochs": 1, "data.train_per_class": 4, "method.components": 8}
COUNTS = {5: 20, 10: 10, 20: 5, 30: 3, 40: 2, 50: 2, 51: 1, 100: 1, 101: 0}


def rows_of(trainer: SequentialTrainer) -> dict[str, torch.Tensor]:
    method: Any = trainer._method
    return {name: rows.clone() for name, rows in method.rows.items()}


@pytest.mark.parametrize(("tasks", "each"), COUNTS.items())
def test_components_of_a_task(tasks: int, each: int) -> None:
    assert CODAPromptConfig().of_a_task(tasks) == each


def test_tasks_without_a_component_are_refused_unless_each_has_its_own() -> None:
    params = {"method.name": "coda_prompt", "data.tasks": 101}
    message = "method.components must be at least data.tasks = 101, which share them out, but got"
    with pytest.raises(ValueError, match=message):
        TrialConfig.from_params(params)
    own = {"method.components_per": "task", "method.components": 1}
    TrialConfig.from_params({**params, **own})


@pytest.mark.parametrize("start", ["boundary", "once"])
def test_components_of_other_tasks_do_not_move(start: str) -> None:
    """P, K and A of earlier tasks stay; those to come are zero, or what they were drawn as."""
    trainer = trained("coda_prompt", {**FEW, "method.orthogonal_start": start}, 2)
    before = rows_of(trainer)
    trainer.train_task()
    for name, after in rows_of(trainer).items():
        assert after.shape[1] == 8
        assert torch.equal(before[name][:, :4], after[:, :4])
        assert not torch.equal(before[name][:, 4:6], after[:, 4:6])
        assert torch.equal(before[name][:, 6:], after[:, 6:])
        assert bool(after[:, 6:].any()) == (start == "once")


def test_earlier_components_have_no_gradient_and_their_part_in_the_prompt_stays() -> None:
    trainer = trained("coda_prompt", FEW, 1)
    method: Any = trainer._method
    task = trainer._stream[1]
    batches = trainer._batches(task.train)
    groups, _ = method.begin_task(trainer._model, task, batches)
    for rows in method.rows.values():
        rows.requires_grad_(True)
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(True)
    images, labels = next(iter(batches.shuffled()))
    scored = method.forward(trainer._model, images, task)
    (method.loss(scored.logits, labels, task.classes) + scored.penalty).backward()
    for name, new in method.new.items():
        assert new.shape[1] == 2 and bool(new.grad.abs().sum() > 0)
        # Constants, even where somebody asks.
        assert method.rows[name].grad is None or not bool(method.rows[name].grad.any())


@pytest.mark.parametrize("form", ["exact", "released"])
def test_the_first_task_s_rows_start_orthonormal_in_every_block(form: str) -> None:
    trainer = SequentialTrainer(tiny("coda_prompt", {**FEW, "method.gram_schmidt": form}))
    method: Any = trainer._method
    task = trainer._stream[0]
    method.begin_task(trainer._model, task, trainer._batches(task.train))
    for new in method.new.values():
        for block in new:
            torch.testing.assert_close(block @ block.T, torch.eye(2), atol=1e-6, rtol=0)


def test_the_penalty_is_of_rows_and_not_of_images() -> None:
    trainer = SequentialTrainer(tiny("coda_prompt", {**FEW, "method.orthogonality": 0.5}))
    method: Any = trainer._method
    task = trainer._stream[0]
    batches = trainer._batches(task.train)
    method.begin_task(trainer._model, task, batches)
    images, _ = next(iter(batches.shuffled()))
    start = method.forward(trainer._model, images, task).penalty.detach()
    assert float(start) == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        for new in method.new.values():
            new.mul_(2.0)
    # Gram matrices of 4 on the diagonal: (4 − 1)² / 2 of three kinds in two blocks.
    for some in (images, images[:3]):
        penalty = method.forward(trainer._model, some, task).penalty.detach()
        assert float(penalty) == pytest.approx(0.5 * 6 * 9 / 2, rel=1e-5)
    assert float(method.forward(trainer._model, images).penalty) == 0


def test_components_are_recorded_and_their_bytes_do_not_grow() -> None:
    results = results_of("coda_prompt", FEW)
    for result in results:
        assert result.metrics["prompt/components"] == 2
        # P, K and A of 8 components in two blocks of width 16.
        assert result.metrics["memory/prompt_bytes"] == 4 * 2 * 8 * (8 * 16 + 16 + 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.length": 7}, "method.length must be even and at least 2"),
        ({"method.components": 3}, "method.components must be at least data.tasks = 4"),
        ({"method.blocks": [0, 0]}, r"method.blocks must be different numbers in \[0, 1\]"),
        ({"method.orthogonality": -1.0}, "method.orthogonality must be a finite number"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("coda_prompt", changes)
