"""Every method over every kind of network: found by their files, so that nothing is registered."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.trainables.trials import comparable, run, same
from trainables import catalog
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer

MakeConfig = Callable[..., TrialConfig]
NETWORKS = ("test_vit", "test_swin", "test_convnext")
REQUIRED = {
    *(
        f"val/{name}"
        for name in (
            "accuracy",
            "average_anytime_accuracy",
            "forgetting",
            "backward_transfer",
            "plasticity",
            "task_known_accuracy",
            "task_prediction_accuracy",
        )
    ),
    *(f"time/{name}_seconds" for name in ("design", "train", "absorb", "evaluate")),
    "time/images_per_second",
    "memory/checkpoint_bytes",
    "memory/branch_bytes",
    "memory/subspace_bytes",
}

every_method = pytest.mark.parametrize("method", catalog.methods())
every_network = pytest.mark.parametrize("network", NETWORKS)


@every_network
@every_method
def test_reports_every_metric_and_resumes_bit_exactly(
    method: str, network: str, tiny: MakeConfig, tmp_path: Path
) -> None:
    config = tiny(method, {"backbone.name": network})
    whole = SequentialTrainer(config)
    results = [whole.train_task(), whole.train_task()]
    whole.save(tmp_path)
    results += run(whole)
    assert [result.task for result in results] == [1, 2, 3, 4]
    last = results[-1]
    assert len(last.accuracy_row) == 4
    missing = REQUIRED - set(last.metrics)
    assert not missing
    # Where nothing is trained there is no loss, and no image that was trained on.
    assert ("train/loss" in last.metrics) == (last.metrics["time/images_per_second"] > 0)
    assert all(math.isfinite(value) for value in last.metrics.values())
    assert last.metrics["val/accuracy"] == pytest.approx(sum(last.accuracy_row) / 4)

    resumed = SequentialTrainer(config)
    resumed.restore(tmp_path)
    assert resumed.tasks_seen == 2
    for one, other in zip(results[2:], run(resumed), strict=True):
        assert comparable(one) == comparable(other)
        assert one.accuracy_row == other.accuracy_row
    assert same(whole._state(), resumed._state())


@every_network
@every_method
def test_frozen_weights_stay(method: str, network: str, tiny: MakeConfig) -> None:
    """Only a method that says so moves the network; the others move adapted rows at most."""
    trainer = SequentialTrainer(tiny(method, {"backbone.name": network, "data.tasks": 2}))
    before = {name: value.clone() for name, value in trainer._model.state_dict().items()}
    adapted = {
        f"{path}.base.weight": layer
        for path, layer in trainer._model.named_modules()
        if any(layer is one for one in trainer._model.layers.values())
    }
    run(trainer)
    after = trainer._model.state_dict()
    if "rank" in catalog.method_config(method).__annotations__:
        changed = [bool(layer.delta().abs().sum() > 0) for layer in adapted.values()]
        assert all(changed) or any(not torch.equal(before[n], after[n]) for n in adapted)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    if trainer._method.trains_backbone:
        assert len(moved) > len(adapted)
        return
    assert moved <= set(adapted)
    for name in moved:
        layer = adapted[name]
        frozen = torch.ones(len(before[name]), dtype=torch.bool)
        for rows in layer.slices.values():
            frozen[rows] = False
        assert torch.equal(before[name][frozen], after[name][frozen])


@every_network
@every_method
def test_learns_well_above_chance(method: str, network: str, tiny: MakeConfig) -> None:
    """Over 12 classes; guessing gives 1/12 overall and 1/3 within a task."""
    changes = {
        "backbone.name": network,
        "data.train_per_class": 16,
        "data.augmentation": "none",
        "optim.epochs": 20,
        "optim.lr": 2e-4 if method == "sequential" else 2e-3,
        "optim.head_lr": 0.1,
    }
    last = run(SequentialTrainer(tiny(method, changes)))[-1]
    assert last.metrics["val/task_known_accuracy"] > 0.5
    assert last.metrics["val/accuracy"] > 2 / 12


@pytest.mark.slow
@every_network
@every_method
def test_sixty_tasks_with_exhausted_subspaces(method: str, network: str, tiny: MakeConfig) -> None:
    """Far more tasks than the layers have room for: no NaN, no crash, a result for each."""
    changes = {
        "backbone.name": network,
        "data.classes": None,
        "data.tasks": 60,
        "data.train_per_class": 3,
        "data.validation_share": 0.34,
        "optim.epochs": 1,
        "optim.lr": 1e-3,
    }
    fields = catalog.method_config(method).__annotations__
    # test_swin's first layer reads a space of few dimensions: the rest of its 16 stays free.
    changes |= {"method.rank": 12} if "rank" in fields else {}
    changes |= {"method.epsilon": 0.999} if "epsilon" in fields else {}
    results = run(SequentialTrainer(tiny(method, changes)))
    assert len(results) == 60
    for result in results:
        assert all(math.isfinite(value) for value in result.metrics.values())
    if "subspace/dim_free" in results[-1].metrics:
        assert results[-1].metrics["subspace/exhausted_layers"] > 0
