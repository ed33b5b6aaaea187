"""Splits of the data sets without files: pinned by names that stay, as those of files are."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.config import DataConfig, catalog
from trainables.data import rendered
from trainables.data.cache.folders import HEADER, IMAGES, remove_unused
from trainables.data.embedded import SOURCES, embedded_images, embedded_manifest
from trainables.data.prepare import prepare, split_of
from trainables.data.sources import load_arrays
from trainables.data_sets import rendition
from trainables.data_sets.index import SPLITS
from trainables.data_sets.manifest import read_manifest
from trainables.data_sets.rendition import draws_of, street

PINNED = {
    ("icons", "random"): "93b97bd048c146615323fbf094ebb176a2d78a90621623b0f37e5319793072a0",
    ("icons", "unseen_family"): "17021edb9df240d0ea352c774105662bd342674383f18e913c4fac0724620572",
    ("glyphs", "families"): "f4e161c5449d82e8c06161fc1aca61a176b4bf3e527d5d52a2bc911441e38b9b",
    ("gaussian", "random"): "503996201b764b02d5af4675b46cd4a41d6fcf4394fccd17ba47dff6293f3549",
}
RENDERED = "ead76e3ba90a274c61b5a04439b43b6a47f6017d9a031bdbd297c8b3aa71d6d7"
GAUSSIAN = DataConfig(name="gaussian", image_size=8)
STREET = replace(GAUSSIAN, rendition="street", rendition_strength=0.5)
ALL = [
    # Glyphs are many, and unpacked each time.
    pytest.param(name, split, marks=[pytest.mark.slow] if name == "glyphs" else [])
    for name in SOURCES
    for split in catalog.dataset(name).splits
]


def images_of(config: DataConfig) -> NDArray[np.uint8]:
    """All images (n, h, w) of a data set as a trial sees them."""
    images = load_arrays(config).images
    assert isinstance(images, np.ndarray) and images.shape[1] == 1
    return images[:, 0]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("name", "split"), ALL)
def test_the_split_is_the_one_that_is_pinned(name: str, split: str) -> None:
    sizes = catalog.dataset(name).image_sizes
    assert sizes is not None
    whole = DataConfig(name=name, split=split, image_size=sizes[0])
    few = replace(whole, tasks=3, classes=5, train_per_class=4, test_per_class=2)
    other = replace(whole, image_size=sizes[-1], evaluation="test", class_order="natural")
    assert {split_of(config).sha256 for config in (whole, few, other)} == {PINNED[name, split]}


@pytest.mark.parametrize(("name", "split"), ALL)
def test_the_manifest_says_what_is_trained_and_tested_on_and_is_written(
    name: str, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path))
    config = DataConfig(name=name, split=split, image_size=32)
    manifest, arrays = embedded_manifest(config), load_arrays(config)
    assert [entry.label for entry in manifest.entries] == arrays.labels.tolist()
    assert len({entry.path for entry in manifest.entries}) == len(arrays.images)
    rows = (arrays.train_rows, arrays.validation_rows, arrays.test_rows)
    for part, own in zip(SPLITS, rows, strict=True):
        listed = [row for row, entry in enumerate(manifest.entries) if entry.split == part]
        assert listed == own.tolist()
        assert len(own) or (part == "validation" and not config.info.validation)
    assert manifest.class_names == arrays.class_names
    for entry in manifest.entries:
        assert entry.path.startswith(f"{manifest.class_names[entry.label]}/")
    done = prepare(config)
    assert read_manifest(done.manifest) == manifest
    assert (done.train, done.validation, done.test) == tuple(len(own) for own in rows)
    # Nothing is decoded: the images are there.
    assert [path.name for path in tmp_path.iterdir()] == ["manifests"]


def test_what_is_trained_on_is_rendered_once_and_read_from_the_cache_then(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, images = images_of(GAUSSIAN), images_of(STREET)
    names = [f"gaussian/{entry.path}" for entry in embedded_manifest(GAUSSIAN).entries]
    assert np.array_equal(images, street(plain, draws_of(names), 0.5))
    # Of a trial that takes other classes in another order an image is the same.
    other = replace(STREET, classes=3, tasks=3, train_per_class=4, evaluation="test")
    assert np.array_equal(images_of(other), images)
    assert not images.flags.writeable
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    monkeypatch.setattr(rendered, "render", None)
    assert np.array_equal(images_of(STREET), images)
    monkeypatch.undo()
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(root))
    # At strength 0 they are what they were.
    assert np.array_equal(images_of(replace(STREET, rendition_strength=0.0)), plain)
    assert len([path for path in root.iterdir() if path.is_dir()]) == 2
    for path in (*folder.iterdir(), folder):
        os.utime(path, (0, 0))
    (line,) = remove_unused(root)
    assert line.startswith(f"removed {folder}: 0.2 MiB")


@pytest.mark.parametrize("harm", ["changed", "cut", "no_header", "half_written", "no_place"])
def test_renditions_are_drawn_again_where_the_cache_does_not_hold_them(
    harm: str, root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(STREET).copy()
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    pixels = folder / IMAGES
    if harm == "changed":
        content = bytearray(pixels.read_bytes())
        content[70] ^= 1
        pixels.write_bytes(content)
    elif harm == "cut":
        pixels.write_bytes(pixels.read_bytes()[:-1])
    elif harm == "no_header":
        (folder / HEADER).unlink()
    elif harm == "half_written":
        folder.rename(folder.with_name(f"{folder.name}.partial-1"))
    else:
        monkeypatch.setenv("LRCS_CACHE_ROOT", str(pixels / "below"))
    assert np.array_equal(images_of(STREET), images)
    said = {
        "changed": "It is built again now.",
        "cut": "is not used and built again",
        "no_place": "the renditions of gaussian are drawn in memory",
    }
    assert said.get(harm, "") in caplog.text
    assert len([path for path in root.iterdir() if path.is_dir()]) == 1
    if harm != "no_place":
        caplog.clear()
        assert np.array_equal(images_of(STREET), images)
        assert not caplog.text


def test_a_rendition_is_the_one_that_is_pinned() -> None:
    pinned = embedded_manifest(DataConfig(rendition="street", rendition_strength=0.5))
    assert pinned.rendition == f"street 0.5 {RENDERED}"


def test_a_rendition_is_pinned_by_its_strength_and_by_what_it_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest, plain = embedded_manifest(STREET), embedded_manifest(GAUSSIAN)
    assert replace(manifest, rendition=None) == plain
    assert embedded_images(replace(STREET, image_size=32, classes=9, tasks=9))[1] == manifest
    less = embedded_manifest(replace(STREET, rendition_strength=0.499))
    monkeypatch.setattr(rendition, "VERSION", 2)
    newer = embedded_manifest(STREET)
    monkeypatch.undo()
    monkeypatch.setattr(rendition, "MAX_TURN", 0.4)
    changed = embedded_manifest(STREET)
    assert len({it.sha256 for it in (manifest, plain, less, newer, changed)}) == 5
    # A trial on a machine that draws others than the study's fails.
    stated = replace(STREET, split_sha256=manifest.sha256)
    with pytest.raises(ValueError, match=rf"gaussian must have the split {manifest.sha256} .* has"):
        load_arrays(stated)


def test_prepare_draws_renditions(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = prepare(STREET)
    assert str(done).startswith("gaussian, street 0.5: 64 classes, 1280 training and 640 test im")
    assert read_manifest(done.manifest) == embedded_manifest(STREET)
    kinds = {path.name.partition("-")[0] for path in root.iterdir()}
    assert kinds == {"manifests", "gaussian_street"}
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(done.manifest))
    with pytest.raises(OSError, match="Not a directory"):
        prepare(STREET)


def test_unseen_families_are_never_trained_on() -> None:
    entries = embedded_manifest(DataConfig(split="unseen_family")).entries
    families = {
        split: {entry.path.rpartition("/")[2] for entry in entries if entry.split == split}
        for split in ("train", "test")
    }
    assert families["train"] and families["test"]
    assert not families["train"] & families["test"]


def test_members_of_a_class_are_around_the_same_image() -> None:
    arrays = load_arrays(DataConfig(name="gaussian", image_size=8))
    images = np.asarray(arrays.images).reshape(len(arrays.labels), -1).astype(float)
    centres = np.stack([images[arrays.labels == label].mean(0) for label in range(64)])
    nearest = ((images[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (nearest == arrays.labels).all()


def test_data_sets_of_files_have_none_here() -> None:
    with pytest.raises(ValueError, match=r"must be a data set without files, but got 'cifar100'"):
        embedded_manifest(DataConfig(name="cifar100"))
