from pathlib import Path

import pytest

from tests.trainables.data.cache.test_cache import index_of
from trainables.data.cache import cache
from trainables.data_sets.index import ImageIndex


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setenv(cache.ROOT_VARIABLE, str(path))
    return path


@pytest.fixture
def index(tmp_path: Path) -> ImageIndex:
    return index_of(tmp_path / "data", 30)
