"""Search trials never look at a test image: whatever reads one raises, and none does."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from study.ledger.ledger import Record
from tests.study.small_study import small_plan
from trainables.config import TrialConfig
from trainables.data import stream
from trainables.data.images import ImageSource
from trainables.trainer import SequentialTrainer

METHODS = ["inflora", "sd_lora", "sequential", "nearest_mean", "joint"]


@dataclass(frozen=True)
class Guarded:
    """A source of images some rows of which must not be read."""

    source: ImageSource
    forbidden: frozenset[int]

    @property
    def device(self) -> torch.device:
        return self.source.device

    @property
    def mark(self) -> None:
        """None, so that no features are looked up: whatever is asked for is read."""

    def views(self, rows: Tensor) -> Tensor:
        if self.forbidden & set(rows.tolist()):
            raise PermissionError("test images are read.")
        return self.source.views(rows)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[int]]:
    """Puts the guard around the test images of every stream; returns what it has guarded."""
    rows: list[frozenset[int]] = []
    load, source = stream.load_arrays, stream.image_source

    def load_arrays(config: Any) -> Any:
        arrays = load(config)
        rows.append(frozenset(arrays.test_rows.tolist()))
        return arrays

    def image_source(*arguments: Any) -> Guarded:
        return Guarded(source(*arguments), rows[-1])

    monkeypatch.setattr(stream, "load_arrays", load_arrays)
    monkeypatch.setattr(stream, "image_source", image_source)
    return rows


def params(method: str, role: Any) -> dict[str, Any]:
    """Params of a trial as the study plans it."""
    plan = small_plan(grid={"method.name": [method]}, fixed={"data.tasks": 2}, search="none")
    return dict(plan.cells[0].trial(role, {}, 0).params)


def run_all(flat: dict[str, Any]) -> list[Record]:
    trainer = SequentialTrainer(TrialConfig.from_params(flat))
    results = [trainer.train_task() for _ in range(flat["data.tasks"])]
    return [{"row": result.accuracy_row, **result.metrics} for result in results]


@pytest.mark.parametrize("method", METHODS)
def test_a_search_trial_reads_no_test_image(method: str, guarded: list[frozenset[int]]) -> None:
    for metrics in run_all(params(method, "search")):
        assert "val/accuracy" in metrics
        assert not [key for key in metrics if key.startswith("test/")]
    assert guarded and all(guarded)
    # The guard would notice.
    with pytest.raises(PermissionError, match="test images are read"):
        run_all({**params(method, "search"), "data.evaluation": "test"})


def test_no_number_of_a_search_depends_on_a_test_image(monkeypatch: pytest.MonkeyPatch) -> None:
    load = stream.load_arrays

    def spoiled(config: Any) -> Any:
        arrays = load(config)
        images = np.array(arrays.images)
        images[arrays.test_rows] = 255 - images[arrays.test_rows]
        return replace(arrays, images=images)

    def measured(role: str) -> list[Record]:
        return [
            {key: metrics[key] for key in metrics if not key.startswith(("time/", "memory/"))}
            for metrics in run_all(params("inflora", role))
        ]

    search, confirm = measured("search"), measured("confirm")
    monkeypatch.setattr(stream, "load_arrays", spoiled)
    assert measured("search") == search
    assert measured("confirm") != confirm
