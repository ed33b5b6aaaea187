"""Every head over 250 tasks: no NaN, nothing empty, a result for each."""

import itertools
import math
from typing import Any

import pytest

from tests.trainables.heads.test_classifier import HEADS
from tests.trainables.trials import run, tiny
from trainables.trainer import SequentialTrainer

STREAM: dict[str, Any] = {
    "data.name": "glyphs",
    "data.image_size": 32,
    "backbone.image_size": 8,
    "data.classes": 250,
    "data.tasks": 250,
    "data.train_per_class": 4,
    "data.test_per_class": 1,
    "optim.epochs": 1,
    "diagnostics": False,
}


@pytest.mark.nightly
@pytest.mark.parametrize("head", [*HEADS, "ranpac"])
def test_250_tasks(head: str) -> None:
    method = head if head == "ranpac" else "sequential_lora"
    trainer = SequentialTrainer(tiny(method, {**STREAM, **HEADS.get(head, {})}))
    results = run(trainer)
    assert len(results) == 250
    for result in results:
        assert all(math.isfinite(value) for value in result.metrics.values())
    kept = [result.metrics["memory/subspace_bytes"] for result in results]
    growth = {now - before for before, now in itertools.pairwise(kept)}
    # Of Gaussians and means, and of columns of a regression: the same for every class.
    assert len(growth) == 1 and (growth == {0}) == (head in ("cosine", "cosface"))
