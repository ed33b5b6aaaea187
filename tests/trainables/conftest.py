from collections.abc import Callable
from typing import Any

import pytest

from trainables.config import TrialConfig

TINY: dict[str, Any] = {
    "data.name": "gaussian",
    "data.image_size": 8,
    "data.classes": 12,
    "data.tasks": 4,
    "data.train_per_class": 8,
    "data.augmentation": "affine",
    "backbone.name": "test_vit",
    "backbone.pretrained": False,
    "optim.lr": 0.01,
    "optim.epochs": 2,
    "optim.batch_size": 16,
}


@pytest.fixture
def tiny() -> Callable[..., TrialConfig]:
    """Builds a config that trains in a fraction of a second."""

    def build(method: str, changes: dict[str, Any] | None = None) -> TrialConfig:
        return TrialConfig.from_params({**TINY, "method.name": method, **(changes or {})})

    return build
