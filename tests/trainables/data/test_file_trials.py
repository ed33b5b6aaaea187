"""Trials on images of files: through the cache, and decoding every time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainables.trials import comparable, results_of, tiny
from trainables.data.cache.cache import cache_root
from trainables.data.images import StoredImages
from trainables.trainer import SequentialTrainer

CLASSES, EACH = 4, 6


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Images of single colours with noise, no larger than what a cache would keep."""
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(CLASSES):
            folder = tmp_path / "data" / "small" / split / f"class_{label}"
            folder.mkdir(parents=True)
            for number in range(EACH):
                shape = (9, 12, 3) if number % 2 else (14, 9, 3)
                pixels = rng.integers(0, 60, shape) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return {
        "data.name": "folder:small",
        "data.root": str(tmp_path / "data"),
        "data.classes": None,
        "data.train_per_class": None,
        "data.grey": True,
        "data.tasks": 2,
        "data.augmentation": "random_resized_crop",
    }


@pytest.mark.parametrize("method", ["inflora", "joint", "nearest_mean"])
def test_a_cache_changes_nothing_where_it_keeps_all_pixels(
    params: dict[str, Any], method: str
) -> None:
    off = results_of(method, {**params, "data.cache": "off"})
    assert not cache_root().exists()
    for result, other in zip(off, results_of(method, params), strict=True):
        assert comparable(result) == comparable(other)
    assert cache_root().exists()
    assert len(off) == 2


def test_tasks_share_one_mapped_file(params: dict[str, Any]) -> None:
    stream = SequentialTrainer(tiny("nearest_mean", params))._stream
    sources = [part.source for task in stream for part in (task.train, task.held_out)]
    assert all(source is sources[0] for source in sources)
    assert isinstance(sources[0], StoredImages)
    image = sources[0].stored[0]
    assert image.base is not None and not image.flags.writeable
