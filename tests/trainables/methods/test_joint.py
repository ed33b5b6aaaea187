import pytest
import torch
from torch import Tensor

from tests.trainables.trials import moved, results_of, tiny, trained, weights
from trainables.trainer import SequentialTrainer

# What lets a head on random features learn the gaussian classes in a second.
LEARNING = {
    "data.train_per_class": 16,
    "data.augmentation": "none",
    "optim.epochs": 20,
    "optim.lr": 2e-3,
    "optim.head_lr": 0.1,
}


@pytest.mark.parametrize("trains", ["branches", "backbone"])
@pytest.mark.parametrize("budget", ["task", "cumulative"])
def test_joint_keeps_to_its_budget(
    budget: str, trains: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images and steps of task t: as in its first ("task"), or t times as many."""
    changes = {"method.budget": budget, "method.trains": trains, "optim.epochs": 3}
    trainer = SequentialTrainer(tiny("joint", changes))
    counts = [len(task.train) for task in trainer._stream]
    assert len(set(counts)) == 1
    batches: list[list[int]] = []
    real = trainer._method.loss

    def loss(logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        batches.append(labels.tolist())
        return real(logits, labels, classes)

    monkeypatch.setattr(trainer._method, "loss", loss)
    for seen in range(1, 5):
        batches.clear()
        trainer.train_task()
        images = counts[0] * (seen if budget == "cumulative" else 1)
        assert len(batches) == 3 * -(-images // 16)
        assert sum(map(len, batches)) == 3 * images
        assert {label for batch in batches for label in batch} == set(range(3 * seen))


def test_joint_trains_the_heads_of_old_tasks_too() -> None:
    changed = {}
    for method in ("joint", "sequential_lora"):
        trainer = trained(method, {"optim.head_lr": 0.1}, 1)
        first = trainer._method.state_dict()["heads"]["weights"][0].clone()
        trainer.train_task()
        last = trainer._method.state_dict()["heads"]["weights"][0]
        changed[method] = not torch.equal(first, last)
    assert changed == {"joint": True, "sequential_lora": False}


def test_joint_moves_the_backbone_only_where_it_is_asked_to() -> None:
    trainer = SequentialTrainer(tiny("joint", {"method.trains": "backbone"}))
    before = weights(trainer)
    assert trainer.train_task().metrics["memory/branch_bytes"] == 0
    assert trainer._method.trains_backbone
    assert moved(trainer, before) == set(before)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.nightly)])
def test_joint_training_is_above_what_forgets(seed: int) -> None:
    last = {}
    for method in ("joint", "sequential", "sequential_lora"):
        rate = 2e-4 if method == "sequential" else 2e-3
        changes = {**LEARNING, "optim.lr": rate, "seed": seed}
        last[method] = results_of(method, changes)[-1].metrics
    for method in ("sequential", "sequential_lora"):
        assert last["joint"]["val/accuracy"] > last[method]["val/accuracy"] + 0.1
        assert last["joint"]["val/forgetting"] < last[method]["val/forgetting"]
