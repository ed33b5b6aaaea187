"""Every method over every kind of network: found by their files, so that nothing is registered.

Method and network meet in the adapted layers alone, so a push tries every method on one network
and a method of each kind on the others; all pairs are tried nightly.
"""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.trials import comparable, moved, results_of, run, same, tiny, weights
from trainables.config import catalog
from trainables.trainer import SequentialTrainer

NETWORKS = ("test_vit", "test_swin", "test_convnext")
# Prompts enter plain transformers alone: one with a class token, one without.
PROMPTED = ("test_vit", "compact_vit")
# On every network at each push: branches that are merged, branches that are kept, no branches.
EVERYWHERE = ("inflora", "sd_lora", "sequential")
SCORES = (
    "accuracy average_anytime_accuracy forgetting backward_transfer plasticity "
    "task_known_accuracy task_prediction_accuracy recency_bias readout_accuracy lost/heads "
    "lost/inference minimum_accuracy stability_gap"
)
REQUIRED = {
    *(f"test/{name}" for name in SCORES.split()),
    *(f"time/{name}_seconds" for name in ("design", "train", "absorb", "evaluate", "diagnose")),
    "time/images_per_second",
    *(f"memory/{name}_bytes" for name in ("checkpoint", "branch", "subspace")),
}


nightly = pytest.mark.nightly


def pairs(on_push: Callable[[str, str], bool]) -> pytest.MarkDecorator:
    """All pairs of a method and a network, of which those that are not `on_push` run nightly."""
    return pytest.mark.parametrize(
        ("method", "network"),
        [
            pytest.param(method, network, marks=() if on_push(method, network) else nightly)
            for method in catalog.methods()
            for network in (PROMPTED if has_prompts(method) else NETWORKS)
        ],
    )


# Prompts for the five tokens of test_vit, among which those of published lengths would be most.
# fmt: off
FEW_ROWS: dict[str, dict[str, Any]] = {
    "l2p": {"method.length": 1, "method.top_k": 1, "optim.head_lr": 0.03, "optim.epochs": 40},
    "dual_prompt": {
        "method.g_length": 1, "method.e_length": 2, "optim.head_lr": 0.03, "optim.epochs": 40,
    },
    "coda_prompt": {"method.length": 2, "method.components": 4, "optim.prompt_lr": 0.01},
    "hide_prompt": {"method.length": 2},
}
# fmt: on


def has_prompts(method: str) -> bool:
    return hasattr(catalog.declaration(method).config, "check_prompts")


def on(network: str) -> dict[str, Any]:
    """What chooses a network and images that it takes."""
    if network != "compact_vit":
        return {"backbone.name": network}
    return {"backbone.name": network, "backbone.pretrained": True, "data.image_size": 32}


def is_base(method: str) -> bool:
    return catalog.declaration(method).base == method


every_pair = pairs(lambda method, network: network == NETWORKS[0] or method in EVERYWHERE)


@pytest.mark.slow
@every_pair
def test_reports_every_metric_and_resumes_bit_exactly(
    method: str, network: str, tmp_path: Path
) -> None:
    confirmation = {"data.evaluation": "test", "evaluation.during": 2}
    config = tiny(method, {**on(network), **confirmation})
    whole, resumed = SequentialTrainer(config), SequentialTrainer(config)
    results = run(whole, 2)
    whole.save(tmp_path)
    results += run(whole)
    assert [result.task for result in results] == [1, 2, 3, 4]
    last = results[-1]
    assert len(last.accuracy_row) == 4
    assert set(last.metrics) >= REQUIRED
    # Where nothing is trained there is no loss, and no image that was trained on.
    assert ("train/loss" in last.metrics) == (last.metrics["time/images_per_second"] > 0)
    assert all(math.isfinite(value) for value in last.metrics.values())
    assert last.metrics["test/accuracy"] == pytest.approx(sum(last.accuracy_row) / 4)

    resumed.restore(tmp_path)
    assert resumed.tasks_seen == 2
    for whole_task, resumed_task in zip(results[2:], run(resumed), strict=True):
        assert comparable(whole_task) == comparable(resumed_task)
        assert whole_task.accuracy_row == resumed_task.accuracy_row
    assert same(whole._state(), resumed._state())


@every_pair
def test_frozen_weights_stay(method: str, network: str) -> None:
    """Only a method that says so moves the network; the others move adapted rows at most."""
    trainer = SequentialTrainer(tiny(method, {**on(network), "data.tasks": 2}))
    before = weights(trainer)
    adapted = {
        f"{path}.base.weight": layer
        for path, layer in trainer._model.named_modules()
        if any(layer is adapted for adapted in trainer._model.layers.values())
    }
    run(trainer)
    after, changed = weights(trainer), moved(trainer, before)
    if "rank" in catalog.declaration(method).config.__annotations__:
        assert all(layer.delta().any() for layer in adapted.values()) or changed & set(adapted)
    if trainer._method.trains_backbone:
        assert len(changed) > len(adapted)
        return
    assert changed <= set(adapted)
    for name in changed:
        layer = adapted[name]
        frozen = torch.ones(len(before[name]), dtype=torch.bool)
        for rows in layer.slices.values():
            frozen[rows] = False
        assert torch.equal(before[name][frozen], after[name][frozen])


@pytest.mark.slow
@pairs(lambda method, network: network == NETWORKS[0])
def test_learns_well_above_chance(method: str, network: str) -> None:
    """Over 12 classes; guessing gives 1/12 overall and 1/3 within a task."""
    changes = {
        **on(network),
        "data.train_per_class": 16,
        "data.augmentation": "none",
        "optim.epochs": 20,
        "optim.lr": 2e-4 if method == "sequential" else 2e-3,
        "optim.head_lr": 0.1,
        **FEW_ROWS.get(method, {}),
    }
    last = results_of(method, changes)[-1]
    assert last.metrics["val/task_known_accuracy"] > 0.5
    assert last.metrics["val/accuracy"] > 2 / 12


def unprompted(method: str, network: str) -> bool:
    """A base method on the first network; those with prompts take the longest, and 250 at night."""
    return network == NETWORKS[0] and is_base(method) and not has_prompts(method)


@pytest.mark.slow
@pairs(unprompted)
def test_sixty_tasks_with_exhausted_subspaces(method: str, network: str) -> None:
    """Far more tasks than the layers have room for: no NaN, no crash, a result for each."""
    changes = {
        **on(network),
        "data.classes": None,
        "data.tasks": 60,
        "data.train_per_class": 3,
        "data.evaluation": "test",
        "data.test_per_class": 2,
        "evaluation.during": 1,
        "optim.epochs": 1,
        "optim.lr": 1e-3,
    }
    fields = catalog.declaration(method).config.__annotations__
    # test_swin's first layer reads a space of few dimensions: the rest of its 16 stays free.
    changes |= {"method.rank": 12} if "rank" in fields else {}
    changes |= {"method.epsilon": 0.999} if "epsilon" in fields else {}
    results = results_of(method, changes)
    assert len(results) == 60
    for result in results:
        assert all(math.isfinite(value) for value in result.metrics.values())
    if "subspace/dim_free" in results[-1].metrics:
        assert results[-1].metrics["subspace/exhausted_layers"] > 0


@pytest.mark.nightly
@pytest.mark.parametrize("method", [name for name in catalog.methods() if has_prompts(name)])
def test_250_tasks_of_prompts(method: str) -> None:
    """Far more than pools and components have by default: they follow, and none is empty."""
    changes: dict[str, Any] = {
        "data.name": "glyphs",
        "data.image_size": 32,
        "backbone.image_size": 8,
        "data.classes": 500,
        "data.tasks": 250,
        "data.train_per_class": 4,
        "data.test_per_class": 1,
        **FEW_ROWS[method],
        "optim.epochs": 1,
    }
    if method == "coda_prompt":
        changes["method.components"] = 100
        with pytest.raises(ValueError, match=r"components must be at least data.tasks = 250"):
            tiny(method, changes)
        changes |= {"method.components_per": "task", "method.components": 1}
    if method == "hide_prompt":
        # Its alignments have a step for each old class, in each epoch of every task.
        changes |= {"data.classes": 250, "method.align_epochs": 1, "method.centroids": 1}
    trainer = SequentialTrainer(tiny(method, changes))
    results = run(trainer)
    assert len(results) == 250
    for result in results:
        assert all(math.isfinite(value) for value in result.metrics.values())
    last = results[-1].metrics
    assert last["prompt/used"] >= 1 and last["prompt/similarity"] < 1
    assert ("prompt/chosen/task_250" in last) == (method != "l2p")
    held = [result.metrics["memory/prompt_bytes"] for result in results]
    growth = {now - before for before, now in itertools.pairwise(held)}
    assert len(growth) == 1 and (growth != {0}) == (method in ("dual_prompt", "hide_prompt"))
    state = trainer._method.state_dict()
    if method == "l2p":
        start = SequentialTrainer(trainer.config)._method.state_dict()
        assert not torch.equal(start["keys"], state["keys"])
        return
    # Every task has rows of its own, other than those of the task before.
    rows = state.get("own", state.get("prompts", []))
    if method == "coda_prompt":
        rows = list(state["rows"]["prompts"].unbind(1))
    assert len(rows) == 250 and all(bool(own.any()) for own in rows)
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(rows))
