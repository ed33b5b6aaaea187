"""Images that are trained and tested on, and images of two classes, are counted and named."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.config import DataConfig
from trainables.data.prepare import look_at, prepare

SIZES = {"name": "folder:mine", "tasks": 1, "image_size": 8}


def picture(path: Path, seed: int, compress_level: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, compress_level=compress_level)


def write(folder: Path, seeds: Mapping[str, int], compress_level: int = 6) -> None:
    for name, seed in seeds.items():
        picture(folder / name, seed, compress_level)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of two training and two test images, each once."""
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path / "cache"))
    names = [f"{part}/{name}/{n}.png" for part in ("train", "test") for name in "ab" for n in "01"]
    write(tmp_path / "data" / "mine", dict(zip(names, range(8), strict=True)))
    return tmp_path / "data"


def said(root: Path) -> tuple[str, ...]:
    return prepare(DataConfig(root=str(root), **SIZES)).warnings  # type: ignore[arg-type]


def test_images_that_occur_once_are_not_told_of(root: Path) -> None:
    # The same pixels at the size of the cache, but not in the files.
    for part, value in (("train", 10), ("test", 11)):
        pixels = np.full((90, 90, 3), 10, np.uint8)
        pixels[0, 0] = value
        Image.fromarray(pixels).save(root / "mine" / part / "a" / "flat.png")
    assert said(root) == ()


def test_test_images_that_are_trained_on_are_counted(root: Path) -> None:
    write(root / "mine", {"test/a/2.png": 0, "test/b/2.png": 2, "test/b/3.png": 3})
    # The same pixels in files of other bytes and of another format.
    write(root / "mine", {"test/a/3.png": 1}, compress_level=1)
    write(root / "mine", {"test/a/4.bmp": 1})
    assert said(root) == (
        "folder:mine: 5 of 9 test images are training images, too (3 of them byte for byte), such "
        "as 'train/a/0.png' = 'test/a/2.png' and 'train/a/1.png' = 'test/a/3.png'. Accuracy on "
        "test images is too high by that.",
    )


def test_named_validation_images_that_are_trained_on_are_counted(root: Path) -> None:
    # A copy of a training image, one of a test image, and one of its own.
    write(root / "mine", {"val/a/0.png": 0, "val/a/1.png": 4, "val/b/0.png": 8})
    assert said(root) == (
        "folder:mine: 1 of 3 validation images are training images, too (1 of them byte for byte), "
        "such as 'train/a/0.png' = 'val/a/0.png'. Accuracy on validation images is too high by "
        "that.",
        "folder:mine: 1 of 4 test images are training images, too (1 of them byte for byte), such "
        "as 'val/a/1.png' = 'test/a/0.png'. Accuracy on test images is too high by that.",
    )


def test_images_of_two_classes_are_counted(root: Path) -> None:
    write(root / "mine", {"train/b/2.png": 0, "train/b/3.png": 0, "test/b/2.png": 5})
    assert said(root) == (
        "folder:mine: 5 images (2 pictures) are in two classes or more, such as 'train/a/0.png' = "
        "'train/b/2.png' and 'test/a/1.png' = 'test/b/2.png'.",
    )


@pytest.mark.parametrize("grey", [False, True])
def test_rows_of_arrays_are_looked_at_as_well(grey: bool, root: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    images[5], images[6] = images[0], images[7]
    split = ["train"] * 4 + ["test"] * 4
    np.savez(root / "rows.npz", images=images, labels=np.arange(8) % 2, split=split)
    config = DataConfig(name="npz:rows", root=str(root), tasks=1, image_size=8, grey=grey)
    leak, torn = prepare(config).warnings
    assert leak.startswith("npz:rows: 1 of 4 test images are training images, too, such as 'images")
    assert torn.startswith("npz:rows: 4 images (2 pictures) are in two classes or more, such as")
    assert "'images#6' = 'images#7'" in torn


def test_before_the_images_are_decoded_nothing_is_said_of_them(root: Path) -> None:
    write(root / "mine", {"test/a/2.png": 0})
    (root / "mine" / "train" / "a" / "x.txt").touch()
    config = DataConfig(root=str(root), **SIZES)  # type: ignore[arg-type]
    early = look_at(config)
    assert (len(early.warnings), early.decoded) == (1, False)
    late = prepare(config).warnings
    assert len(late) == 2
    assert (look_at(config).warnings, look_at(config).decoded) == (late, True)
    off = DataConfig(root=str(root), cache="off", **SIZES)  # type: ignore[arg-type]
    assert look_at(off).warnings == early.warnings
    assert "not looked for where data.cache is off" in prepare(off).warnings[-1]


def test_a_long_name_leaves_room_for_what_names_of_files_may_have(root: Path) -> None:
    name = "/".join(["p$x^$q ü" * 8] * 5)
    (root / name).parent.mkdir(parents=True)
    (root / "mine").rename(root / name)
    config = DataConfig(name=f"folder:{name}", root=str(root), tasks=1, image_size=8)
    assert prepare(config).manifest.is_file()
