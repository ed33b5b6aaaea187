import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables import catalog
from trainables.config import TrialConfig
from trainables.data.batches import to_unit
from trainables.low_rank.moments import second_moments
from trainables.low_rank.old_moments import interference
from trainables.trainer import SequentialTrainer, TaskResult

MakeConfig = Callable[..., TrialConfig]
REFERENCES = [name for name in catalog.methods() if catalog.method_file(name).reference]


def run(trainer: SequentialTrainer, tasks: int | None = None) -> list[TaskResult]:
    results: list[TaskResult] = []
    while not trainer.done and tasks != len(results):
        results.append(trainer.train_task())
    return results


def weights(trainer: SequentialTrainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer._model.state_dict().items()}


def deltas(trainer: SequentialTrainer) -> dict[str, Tensor]:
    return {name: layer.delta().detach() for name, layer in trainer._model.layers.items()}


@pytest.mark.parametrize("method", REFERENCES)
def test_says_what_it_shows_and_what_it_keeps(method: str, tiny: MakeConfig) -> None:
    assert catalog.method_file(method).reference
    assert catalog.method_file(method).base == method
    last = run(SequentialTrainer(tiny(method)))[-1].metrics
    assert last["memory/subspace_bytes"] == 0
    with_branches = "rank" in catalog.method_config(method).__annotations__
    assert (last["memory/branch_bytes"] > 0) == with_branches
    assert ("subspace/interference" in last) == with_branches
    quiet = run(SequentialTrainer(tiny(method, {"diagnostics": False})))[-1].metrics
    assert not any(name.startswith("subspace/") for name in quiet)
    assert quiet["val/accuracy"] == last["val/accuracy"]


@pytest.mark.parametrize("method", ["sequential_lora", "averaged_lora", "joint"])
def test_a_rank_that_no_layer_holds_is_refused(method: str, tiny: MakeConfig) -> None:
    for rank in (0, 17):
        with pytest.raises(ValueError, match=r"method\.rank must be in \[1, 16\]"):
            tiny(method, {"method.rank": rank})


@pytest.mark.parametrize("method", ["sequential_lora", "joint"])
def test_one_branch_goes_on_through_all_tasks(method: str, tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny(method, {"method.rank": 2}))
    pretrained = weights(trainer)
    ranks, kept, branches = [], [], []
    for _ in range(3):
        kept.append(trainer.train_task().metrics["memory/branch_bytes"])
        ranks.append({int(torch.linalg.matrix_rank(one)) for one in deltas(trainer).values()})
        layers = trainer._model.layers.values()
        branches.append([one for layer in layers for one in layer.branches.values()])
    # The slices q and v of two layers have a branch of rank 2 each, after every task.
    assert ranks == [{4}] * 3
    assert branches[0] == branches[1] == branches[2]
    assert len(branches[0]) == 4
    assert kept == [2 * 2 * (2 * 16 + 2 * 16) * 4] * 3
    after = weights(trainer)
    assert all(torch.equal(after[name], value) for name, value in pretrained.items())


@pytest.mark.parametrize("method", ["sequential_lora", "joint"])
def test_both_factors_of_the_branch_move_in_every_task(method: str, tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny(method, {"method.rank": 2}))
    seen = []
    for _ in range(3):
        trainer.train_task()
        seen.append({k: v.clone() for k, v in trainer._method.state_dict()["branch"].items()})
    assert {name.rsplit(".", 1)[1] for name in seen[0]} == {"up", "down"}
    for before, after in itertools.pairwise(seen):
        assert not any(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", ["sequential_lora", "joint", "averaged_lora"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_restored_trial_scores_as_the_saved_one(
    method: str, after: int, tiny: MakeConfig, tmp_path: Path
) -> None:
    trainer = SequentialTrainer(tiny(method))
    run(trainer, after)
    trainer.save(tmp_path)
    restored = SequentialTrainer(tiny(method))
    restored.restore(tmp_path)
    images = to_unit(trainer._stream[0].held_out.images)
    with torch.no_grad():
        assert torch.equal(restored._model(images), trainer._model(images))
    assert restored.train_task().accuracy_row == trainer.train_task().accuracy_row
    for name, delta in deltas(trainer).items():
        assert torch.equal(delta, deltas(restored)[name])


def test_the_average_is_that_of_updates_trained_apart(
    tiny: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After t tasks W0 + (1/t) Σ ΔW_k, each ΔW_k from W0, by hand in float64."""
    trainer = SequentialTrainer(tiny("averaged_lora", {"method.rank": 3}))
    layers = trainer._model.layers
    pretrained = {name: layer.weight.clone() for name, layer in layers.items()}
    updates: list[dict[str, Tensor]] = []
    real = trainer._method.end_task

    def end_task(*arguments: Any) -> dict[str, float]:
        for name, layer in layers.items():
            assert torch.equal(layer.weight, pretrained[name])
        updates.append({name: one.double() for name, one in deltas(trainer).items()})
        return real(*arguments)

    monkeypatch.setattr(trainer._method, "end_task", end_task)
    kept = []
    for seen in range(1, 5):
        kept.append(trainer.train_task().metrics["memory/branch_bytes"])
        for name, layer in layers.items():
            mean = sum((one[name] for one in updates), torch.zeros(())) / seen
            expected = pretrained[name].double() + mean
            torch.testing.assert_close(layer.weight.double(), expected, atol=1e-7, rtol=1e-6)
            assert not layer.branches
    assert len({float(one["layer_00"].norm()) for one in updates}) == 4
    # Two layers, q and v of 16 × 16 each, whatever the number of tasks.
    assert kept == [2 * 2 * 16 * 16 * 4] * 4


def test_the_first_average_is_the_first_update(tiny: MakeConfig) -> None:
    """With one task averaging is plain LoRA, so the scores are those of sequential LoRA."""
    changes = {"data.tasks": 1, "method.rank": 3}
    (averaged,) = run(SequentialTrainer(tiny("averaged_lora", changes)))
    (sequential,) = run(SequentialTrainer(tiny("sequential_lora", changes)))
    assert averaged.metrics["train/loss"] == sequential.metrics["train/loss"]
    assert averaged.accuracy_row == sequential.accuracy_row


def test_interference_is_of_what_the_task_changed(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("sequential_lora"))
    trainer.train_task()
    first = trainer._stream[0].train
    old = second_moments(trainer._model, trainer._model.layers, [to_unit(first.images)])
    before = deltas(trainer)
    metrics = trainer.train_task().metrics
    for name, after in deltas(trainer).items():
        expected = interference(after - before[name], old[name])
        assert metrics[f"subspace/interference/{name}"] == pytest.approx(expected, rel=1e-5)


def test_linear_heads_leave_every_weight_of_the_backbone(tiny: MakeConfig) -> None:
    trainer = SequentialTrainer(tiny("linear_heads"))
    before = weights(trainer)
    losses = [result.metrics["train/loss"] for result in run(trainer)]
    after = weights(trainer)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(set(losses)) == 4
