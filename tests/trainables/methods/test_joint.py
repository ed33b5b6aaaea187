from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer, TaskResult

MakeConfig = Callable[..., TrialConfig]
# What lets a head on random features learn the gaussian classes in a second.
LEARNING = {
    "data.train_per_class": 16,
    "data.augmentation": "none",
    "optim.epochs": 20,
    "optim.lr": 2e-3,
    "optim.head_lr": 0.1,
}


def run(trainer: SequentialTrainer) -> list[TaskResult]:
    results: list[TaskResult] = []
    while not trainer.done:
        results.append(trainer.train_task())
    return results


def weights(trainer: SequentialTrainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer._model.state_dict().items()}


class Spy:
    """Keeps the labels of every batch that the trainer asks a method's loss for."""

    def __init__(self, trainer: SequentialTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[int]] = []
        real = trainer._method.loss

        def loss(logits: Tensor, labels: Tensor, classes: range) -> Tensor:
            self.batches.append(labels.tolist())
            return real(logits, labels, classes)

        monkeypatch.setattr(trainer._method, "loss", loss)


@pytest.mark.parametrize("trains", ["branches", "backbone"])
@pytest.mark.parametrize("budget", ["task", "cumulative"])
def test_joint_keeps_to_its_budget(
    budget: str, trains: str, tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images and steps of task t: as in its first ("task"), or t times as many."""
    changes = {"method.budget": budget, "method.trains": trains, "optim.epochs": 3}
    trainer = SequentialTrainer(tiny("joint", changes))
    counts = [len(task.train) for task in trainer._stream]
    assert len(set(counts)) == 1
    for seen in range(1, 5):
        with monkeypatch.context() as patch:
            spy = Spy(trainer, patch)
            trainer.train_task()
        images = counts[0] * (seen if budget == "cumulative" else 1)
        assert len(spy.batches) == 3 * -(-images // 16)
        assert sum(map(len, spy.batches)) == 3 * images
        assert {label for batch in spy.batches for label in batch} == set(range(3 * seen))


def test_joint_trains_the_heads_of_old_tasks_too(tiny: MakeConfig) -> None:
    moved = {}
    for method in ("joint", "sequential_lora"):
        trainer = SequentialTrainer(tiny(method, {"optim.head_lr": 0.1}))
        trainer.train_task()
        first = trainer._method.state_dict()["heads"]["weights"][0].clone()
        trainer.train_task()
        last = trainer._method.state_dict()["heads"]["weights"][0]
        moved[method] = not torch.equal(first, last)
    assert moved == {"joint": True, "sequential_lora": False}


def test_joint_moves_the_backbone_only_where_it_is_asked_to(
    tiny: MakeConfig, tmp_path: Path
) -> None:
    config = tiny("joint", {"method.trains": "backbone"})
    trainer = SequentialTrainer(config)
    before = weights(trainer)
    result = trainer.train_task()
    after = weights(trainer)
    assert trainer._method.trains_backbone
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert result.metrics["memory/branch_bytes"] == 0
    trainer.save(tmp_path)
    resumed = SequentialTrainer(config)
    resumed.restore(tmp_path)
    assert resumed.train_task().accuracy_row == trainer.train_task().accuracy_row


@pytest.mark.parametrize("seed", [0, 1])
def test_joint_training_is_above_what_forgets(seed: int, tiny: MakeConfig) -> None:
    last = {}
    for method in ("joint", "sequential", "sequential_lora"):
        rate = 2e-4 if method == "sequential" else 2e-3
        config = tiny(method, {**LEARNING, "optim.lr": rate, "seed": seed})
        last[method] = run(SequentialTrainer(config))[-1].metrics
    for method in ("sequential", "sequential_lora"):
        assert last["joint"]["val/accuracy"] > last[method]["val/accuracy"] + 0.1
        assert last["joint"]["val/forgetting"] < last[method]["val/forgetting"]
