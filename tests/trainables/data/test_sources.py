"""Arrays of image files: what a change of the files does to what was read of them before."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainables.data_sets import trees
from trainables.config import DataConfig
from trainables.data.prepare import split_of
from trainables.data.sources import load_arrays


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of BMP files, which have the same size in bytes whatever they show."""
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path / "cache"))
    trees.class_folders(tmp_path / "data" / "mine", ["a", "b"], images=5, suffix=".bmp")
    return tmp_path / "data"


def config(root: Path) -> DataConfig:
    return DataConfig(name="folder:mine", root=str(root), tasks=2, image_size=8)


def repaint(file: Path) -> None:
    """Other pixels in as many bytes, at a later time."""
    before = file.stat()
    Image.new("RGB", (12, 9), (1, 2, 3)).save(file)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


def test_a_file_that_is_rewritten_is_decoded_again(root: Path) -> None:
    before = load_arrays(config(root)).images[0]
    repaint(root / "mine" / "a" / "art_0.bmp")
    after = load_arrays(config(root)).images[0]
    assert not np.array_equal(before, after)
    assert (after == (1, 2, 3)).all()


def test_two_roots_with_the_same_tree_share_no_pixels(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other)
    file = other / "mine" / "a" / "art_0.bmp"
    time = file.stat().st_mtime_ns
    repaint(file)
    os.utime(file, ns=(time, time))
    mine, theirs = (load_arrays(config(path)).images[0] for path in (root, other))
    assert not np.array_equal(mine, theirs)
    assert (theirs == (1, 2, 3)).all()


def test_a_class_that_came_after_the_config_was_checked_is_refused(root: Path) -> None:
    checked = config(root)
    assert checked.info.classes == 2
    trees.class_folders(root / "mine", ["c"], images=5, suffix=".bmp")
    with pytest.raises(ValueError, match=r"folder:mine must have the 2 classes .* have 3 now"):
        load_arrays(checked)


@pytest.mark.parametrize("name", ["icons", "gaussian", "folder:mine"])
def test_another_split_than_the_one_stated_is_refused(name: str, root: Path) -> None:
    place = str(root) if name == "folder:mine" else None
    config = DataConfig(name=name, root=place, tasks=2, image_size=32)
    right = split_of(config).sha256
    load_arrays(replace(config, split_sha256=right))
    shutil.rmtree(root.parent / "cache", ignore_errors=True)
    with pytest.raises(ValueError, match=f"{name} must have the split {'0' * 64}.* has {right}"):
        load_arrays(replace(config, split_sha256="0" * 64))
    # It is found before anything is decoded.
    assert not (root.parent / "cache").exists()


def test_trials_of_a_process_share_what_was_drawn_of_a_set_without_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path))
    street = DataConfig(name="gaussian", image_size=8, rendition="street")
    first = load_arrays(street)
    assert load_arrays(replace(street, tasks=5, train_per_class=3)).images is first.images
    assert isinstance(first.images, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        first.images[0] = 0
    weaker = load_arrays(replace(street, rendition_strength=0.5)).images
    assert not np.array_equal(weaker[0], first.images[0])
