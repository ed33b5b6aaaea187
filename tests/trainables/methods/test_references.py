import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.trials import results_of, tiny, trained, weights
from trainables.config import catalog
from trainables.data.batches import to_unit
from trainables.low_rank.moments import second_moments
from trainables.low_rank.old_moments import interference
from trainables.trainer import SequentialTrainer

REFERENCES = [name for name in catalog.methods() if catalog.declaration(name).reference]


def deltas(trainer: SequentialTrainer) -> dict[str, Tensor]:
    return {name: layer.delta().detach() for name, layer in trainer._model.layers.items()}


@pytest.mark.parametrize("method", REFERENCES)
def test_says_what_it_shows_and_what_it_keeps(method: str) -> None:
    assert catalog.declaration(method).reference
    assert catalog.declaration(method).base == method
    last = results_of(method)[-1].metrics
    assert last["memory/subspace_bytes"] == 0
    with_branches = "rank" in catalog.declaration(method).config.__annotations__
    assert (last["memory/branch_bytes"] > 0) == with_branches
    assert ("subspace/interference" in last) == with_branches
    quiet = results_of(method, {"diagnostics": False})[-1].metrics
    assert not any(name.startswith("subspace/") for name in quiet)
    assert quiet["val/accuracy"] == last["val/accuracy"]


@pytest.mark.parametrize("method", ["sequential_lora", "averaged_lora", "joint"])
def test_a_rank_that_no_layer_holds_is_refused(method: str) -> None:
    for rank in (0, 17):
        with pytest.raises(ValueError, match=r"method\.rank must be in \[1, 16\]"):
            tiny(method, {"method.rank": rank})


@pytest.mark.parametrize("method", ["sequential_lora", "joint"])
def test_the_same_branch_goes_on_through_all_tasks(method: str) -> None:
    trainer = SequentialTrainer(tiny(method, {"method.rank": 2}))
    pretrained = weights(trainer)
    states, branches = [], []
    for _ in range(3):
        # The slices q and v of two layers have a branch of rank 2 each, after every task.
        assert trainer.train_task().metrics["memory/branch_bytes"] == 2 * 2 * (4 * 16) * 4
        assert {int(torch.linalg.matrix_rank(delta)) for delta in deltas(trainer).values()} == {4}
        layers = trainer._model.layers.values()
        branches.append([branch for layer in layers for branch in layer.branches.values()])
        state = trainer._method.state_dict()["branch"]
        states.append({name: factor.clone() for name, factor in state.items()})
    assert len(branches[0]) == 4 and branches[0] == branches[1] == branches[2]
    assert {name.rsplit(".", 1)[1] for name in states[0]} == {"up", "down"}
    for before, after in itertools.pairwise(states):
        assert not any(torch.equal(before[name], after[name]) for name in before)
    after = weights(trainer)
    assert all(torch.equal(after[name], value) for name, value in pretrained.items())


def test_the_average_is_that_of_updates_trained_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """After t tasks W0 + (1/t) Σ ΔW_k, each ΔW_k from W0, by hand in float64."""
    trainer = SequentialTrainer(tiny("averaged_lora", {"method.rank": 3}))
    layers = trainer._model.layers
    pretrained = {name: layer.weight.clone() for name, layer in layers.items()}
    updates: list[dict[str, Tensor]] = []
    real = trainer._method.end_task

    def end_task(*arguments: Any) -> dict[str, float]:
        for name, layer in layers.items():
            assert torch.equal(layer.weight, pretrained[name])
        updates.append({name: delta.double() for name, delta in deltas(trainer).items()})
        return real(*arguments)

    monkeypatch.setattr(trainer._method, "end_task", end_task)
    kept = []
    for seen in range(1, 5):
        kept.append(trainer.train_task().metrics["memory/branch_bytes"])
        for name, layer in layers.items():
            mean = sum((update[name] for update in updates), torch.zeros(())) / seen
            expected = pretrained[name].double() + mean
            torch.testing.assert_close(layer.weight.double(), expected, atol=1e-7, rtol=1e-6)
            assert not layer.branches
    assert len({float(update["layer_00"].norm()) for update in updates}) == 4
    # Two layers, q and v of 16 × 16 each, whatever the number of tasks.
    assert kept == [2 * 2 * 16 * 16 * 4] * 4


def test_the_first_average_is_the_first_update() -> None:
    """With one task averaging is plain LoRA, so the scores are those of sequential LoRA."""
    changes = {"data.tasks": 1, "method.rank": 3}
    (averaged,) = results_of("averaged_lora", changes)
    (sequential,) = results_of("sequential_lora", changes)
    assert averaged.metrics["train/loss"] == sequential.metrics["train/loss"]
    assert averaged.accuracy_row == sequential.accuracy_row


def test_interference_is_of_what_the_task_changed() -> None:
    trainer = trained("sequential_lora", tasks=1)
    first = trainer._stream[0].train
    old = second_moments(trainer._model, trainer._model.layers, [to_unit(first.images)])
    before = deltas(trainer)
    metrics = trainer.train_task().metrics
    for name, after in deltas(trainer).items():
        expected = interference(after - before[name], old[name])
        assert metrics[f"subspace/interference/{name}"] == pytest.approx(expected, rel=1e-5)
