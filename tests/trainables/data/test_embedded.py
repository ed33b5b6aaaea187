"""Splits of the data sets without files: pinned by names that stay, as those of files are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainables.config import DataConfig, catalog
from trainables.data.embedded import embedded_manifest
from trainables.data.prepare import prepare, split_of
from trainables.data.sources import SOURCES, load_arrays
from trainables.data_sets.manifest import read_manifest

PINNED = {
    ("icons", "random"): "93b97bd048c146615323fbf094ebb176a2d78a90621623b0f37e5319793072a0",
    ("icons", "unseen_family"): "17021edb9df240d0ea352c774105662bd342674383f18e913c4fac0724620572",
    ("gaussian", "random"): "503996201b764b02d5af4675b46cd4a41d6fcf4394fccd17ba47dff6293f3549",
}
ALL = [(name, split) for name in SOURCES for split in catalog.dataset(name).splits]


@pytest.mark.parametrize(("name", "split"), ALL)
def test_the_split_is_the_one_that_is_pinned(name: str, split: str) -> None:
    sizes = catalog.dataset(name).image_sizes
    assert sizes is not None
    whole = DataConfig(name=name, split=split, image_size=sizes[0])
    few = replace(whole, tasks=3, classes=5, train_per_class=4, test_per_class=2)
    other = replace(whole, image_size=sizes[1], evaluation="test", class_order="natural")
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
    for part, rows in (("train", arrays.train_rows), ("test", arrays.test_rows)):
        listed = [row for row, entry in enumerate(manifest.entries) if entry.split == part]
        assert listed == rows.tolist() and len(rows)
    assert manifest.class_names == arrays.class_names
    for entry in manifest.entries:
        assert entry.path.startswith(f"{manifest.class_names[entry.label]}/")
    done = prepare(config)
    assert read_manifest(done.manifest) == manifest
    assert (done.train, done.test) == (len(arrays.train_rows), len(arrays.test_rows))
    # Nothing is decoded: the images are there.
    assert [path.name for path in tmp_path.iterdir()] == ["manifests"]


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
