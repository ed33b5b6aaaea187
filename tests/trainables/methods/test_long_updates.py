"""Methods for long sequences over far more tasks than their spaces have room for."""

import math
from typing import Any

import pytest

from tests.trainables.trials import run, tiny
from trainables.trainer import SequentialTrainer

LONG: dict[str, Any] = {
    "data.name": "glyphs",
    "data.image_size": 32,
    "backbone.image_size": 8,
    "data.classes": 500,
    "data.tasks": 250,
    "data.train_per_class": 4,
    "data.test_per_class": 1,
    "optim.epochs": 1,
    "optim.lr": 1e-3,
    "diagnostics": False,
}


@pytest.mark.nightly
@pytest.mark.parametrize("preset", ["corrected", "released"])
@pytest.mark.parametrize("method", ["coso", "lora_drs"])
def test_250_tasks(method: str, preset: str) -> None:
    trainer = SequentialTrainer(tiny(method, {**LONG, "preset": preset}))
    results = run(trainer)
    assert len(results) == 250
    for result in results:
        assert all(math.isfinite(value) for value in result.metrics.values())
    last = results[-1].metrics
    assert last["subspace/exhausted_layers"] == 2
    held = [result.metrics["memory/subspace_bytes"] for result in results]
    layers, dim = 2, 16
    if method == "coso" and preset == "corrected":
        # Two memories of 16 columns at the most.
        assert max(held) <= layers * dim * dim * 4
        assert last["subspace/gradient_free"] < 0.5
    if method == "lora_drs":
        means = [500 * trainer._model.width * 4 * (task + 1) / 250 for task in range(250)]
        assert all(
            now <= kept + layers * dim * dim * 4 for now, kept in zip(held, means, strict=True)
        )


@pytest.mark.nightly
@pytest.mark.parametrize("preset", ["corrected", "released"])
@pytest.mark.parametrize("method", ["e2_lora", "loda"])
def test_250_tasks_in_a_fixed_budget(method: str, preset: str) -> None:
    """More tasks than a layer has outputs: some have none left, and the newest always one."""
    changes = {**LONG, "preset": preset, "method.align": False}
    results = run(SequentialTrainer(tiny(method, changes)))
    assert len(results) == 250
    for result in results:
        assert all(math.isfinite(value) for value in result.metrics.values())
    held = [result.metrics["memory/branch_bytes"] for result in results[1:]]
    assert len(set(held)) == 1
    if method == "e2_lora":
        assert results[-1].metrics["subspace/exhausted_layers"] == 4
        assert all(result.metrics["subspace/rank"] >= 1 for result in results)
    else:
        assert 0 < results[-1].metrics["subspace/eta"] < 1
