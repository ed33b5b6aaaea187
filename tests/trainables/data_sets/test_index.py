import os
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from tests.trainables.data_sets import trees
from trainables.config import DataConfig, TrialConfig, catalog
from trainables.data_sets import file_sets
from trainables.data_sets.file_sets import read_index
from trainables.data_sets.index import Entry, Split, check_entries

GREY = {"data.grey": True, "backbone.name": "compact_vit"}
GOOD = (
    Entry("a0", 0, "train"),
    Entry("a1", 0, "test"),
    Entry("b0", 1, "train"),
    Entry("b1", 1, "test"),
)
NAMED = Entry("a2", 0, "validation"), Entry("b2", 1, "validation")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Classes a and b with three images to train on and two to test on."""
    trees.class_folders(tmp_path / "mine" / "train", ["a", "b"], images=3)
    trees.class_folders(tmp_path / "mine" / "test", ["a", "b"], images=2)
    return tmp_path / "mine"


def test_rows_and_counts_agree(mine: Path) -> None:
    index = read_index("folder:mine", str(mine.parent))
    train, test = index.rows("train"), index.rows("test")
    assert sorted([*train, *test]) == list(range(10))
    assert np.bincount(index.labels[train]).tolist() == index.counts("train").tolist() == [3, 3]
    assert index.counts("test").tolist() == [2, 2]


@pytest.mark.parametrize("change", ["size", "time", "content", "name", "class", "split", "nothing"])
def test_the_fingerprint_changes_with_the_data(change: str, mine: Path) -> None:
    before = read_index("folder:mine", str(mine.parent)).fingerprint
    first = mine / "train" / "a" / "art_0.jpg"
    if change == "size":
        first.write_bytes(first.read_bytes() + b"!")
    elif change == "time":
        os.utime(first, ns=(0, first.stat().st_mtime_ns + 1))
    elif change == "content":
        # Of the same size and date, as restored by a copy that keeps dates.
        stat = first.stat()
        time.sleep(0.02)  # longer than a tick of the clock of files
        first.write_bytes(first.read_bytes()[::-1])
        os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert first.stat().st_mtime_ns == stat.st_mtime_ns
    elif change == "name":
        first.rename(first.with_name("other.jpg"))
    elif change == "class":
        first.rename(mine / "train" / "b" / "art_9.jpg")
    elif change == "split":
        first.rename(mine / "test" / "a" / "art_9.jpg")
    after = read_index("folder:mine", str(mine.parent)).fingerprint
    assert (after == before) == (change == "nothing")


def test_the_fingerprint_of_an_archive_changes_with_one_pixel(tmp_path: Path) -> None:
    images, labels = np.zeros((4, 2, 2), np.uint8), np.array([0, 1, 0, 1])
    split = np.array(["train", "train", "test", "test"])
    fingerprints = set()
    for value in (0, 1):
        images[3, 1, 1] = value
        np.savez(tmp_path / "mine.npz", images=images, labels=labels, split=split)
        fingerprints.add(read_index("npz:mine", str(tmp_path)).fingerprint)
    assert len(fingerprints) == 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((*GOOD, GOOD[0]), "listed once, but a0 is twice"),
        ((*GOOD, Entry("c", 2, "train")), r"labels must be in \[0, 1\], but c has 2"),
        ((*GOOD, Entry("c", -1, "train")), r"labels must be in \[0, 1\], but c has -1"),
        (GOOD[:3], r"class 'b' has none in test \(1 of 2"),
        (GOOD[1:], r"class 'a' has none in train \(1 of 2"),
        (
            (*GOOD, NAMED[0]),
            r"a training, a test and, as others have one, a validation image, "
            r"but class 'b' has none in validation \(1 of 2",
        ),
        ((*GOOD[1:], *NAMED), r"class 'a' has none in train \(1 of 2"),
        ((*GOOD, Entry("c", 0, cast(Split, "val"))), r"\['train', 'validation', 'test'\], but c"),
    ],
)
def test_entries_that_no_stream_can_be_cut_from_are_refused(
    entries: tuple[Entry, ...], message: str
) -> None:
    check_entries("set", GOOD, ("a", "b"))
    check_entries("set", (*GOOD, *NAMED), ("a", "b"))
    with pytest.raises(ValueError, match=message):
        check_entries("set", entries, ("a", "b"))


@pytest.mark.parametrize("name", ["folder:", "folder:../x", "npz:/etc/x", "folder:a//b", "npz:./a"])
def test_a_name_that_leads_out_of_the_root_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="with a path below the root"):
        DataConfig(name=name, root=str(tmp_path))


def test_a_config_of_own_images_knows_their_classes(tmp_path: Path) -> None:
    trees.class_folders(tmp_path / "mine", ["a", "b", "c"], images=5)
    config = DataConfig(name="folder:mine", root=str(tmp_path), tasks=3)
    assert (config.classes_in_use, config.channels, config.info.fewest_images) == (3, 3, 4)
    with pytest.raises(ValueError, match=r"data\.tasks must be in \[1, 3\]"):
        DataConfig(name="folder:mine", root=str(tmp_path), tasks=4)


def test_a_validation_share_is_refused_where_the_images_for_it_are_named(mine: Path) -> None:
    config = DataConfig(name="folder:mine", root=str(mine.parent), tasks=2, validation_share=0.3)
    assert not config.info.validation
    # As any set, it needs an image to train on and another one to be cut.
    with pytest.raises(ValueError, match=r"data\.train_per_class must be at least 2 or null"):
        replace(config, train_per_class=1)
    trees.class_folders(mine / "val", ["a", "b"], images=1)
    file_sets._described.cache_clear()
    with pytest.raises(
        ValueError,
        match=r"data\.validation_share must be 0\.2 for folder:mine, which names its validation "
        r"images itself, but got 0\.3\.",
    ):
        replace(config)
    named = replace(config, validation_share=0.2, train_per_class=1)
    assert (named.info.validation, named.info.fewest_images) == (True, 3)
    # Another rule parts all images anew: then they are cut.
    assert not replace(config, split="stratified").info.validation


def test_an_unknown_data_set_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of \['cifar100', .*'icons'.*folder:NAME or npz"):
        catalog.dataset("cifar")


def test_published_sets_are_checked_without_their_files() -> None:
    params = {**GREY, "method.name": "sequential", "data.name": "cifar100", "data.tasks": 10}
    assert TrialConfig.from_params(params).data.channels == 1
    with pytest.raises(ValueError, match="takes images of 1 channels, but the data have 3"):
        TrialConfig.from_params({**params, "data.grey": False})


@pytest.mark.parametrize(("method", "split"), [("inflora", "random"), ("sd_lora", None)])
def test_the_released_recipes_select_their_own_split(method: str, split: str | None) -> None:
    params = {**GREY, "method.name": method, "preset": "released", "data.name": "imagenet_r"}
    config = TrialConfig.from_params(params)
    assert config.data.split == split
    assert config.data.info.splits[0] == "published"
    # A manifest that is given decides in place of the recipe.
    pinned = TrialConfig.from_params({**params, "data.manifest": "/a.tsv"})
    assert pinned.data.split is None
    assert TrialConfig.from_params(pinned.to_params()) == pinned


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "here"}, r"data\.root must be an absolute path or null, but got 'here'"),
        ({"manifest": "here.tsv"}, r"data\.manifest must be an absolute path"),
        ({"manifest": "/a.tsv"}, r"data\.manifest must be null for icons, which has no files"),
        ({"invert": True}, r"data\.invert must be false for icons, .* but got true\."),
        ({"root": "/data"}, r'data\.root must be null for icons, .* but got "/data" \(LRCS_DATA_R'),
        ({"cache": "off"}, r'data\.cache must be "auto" for icons, .* but got "off"\.'),
        ({"name": "gaussian", "image_size": 8, "cache": "off"}, r'must be "auto" for gaussian, wh'),
        ({"name": "digits", "root": "/data"}, r"must be null for digits, which comes with a pack"),
        (
            {"name": "imagenet_r", "split": "random", "manifest": "/a.tsv"},
            r"data\.split must be null for imagenet_r, whose split data\.manifest decides, "
            r'but got "random"\.',
        ),
        ({"rendition": "street", "rendition_strength": 1.5}, r"must be in \[0, 1\], but got 1\.5"),
        ({"rendition": "street", "rendition_strength": float("nan")}, r"in \[0, 1\], but got nan"),
        (
            {"rendition_strength": 0.5},
            r"strength must be 1\.0 for icons, whose data\.rendition is n",
        ),
        (
            {"name": "digits", "rendition": "street"},
            r'data\.rendition must be "none" for digits, since only data sets without files '
            r'\(icons, glyphs, gaussian\) have others, but got "street"\.',
        ),
        (
            {"name": "imagenet_a", "rendition_strength": 0.0},
            r"must be 1\.0 for imagenet_a, whose d",
        ),
        ({"split_sha256": "0" * 63}, r"data\.split_sha256 must be 64 hexadecimal digits or null"),
        ({"split": "published"}, r"data\.split must be one of \['random', 'unseen_family'\]"),
    ],
)
def test_keys_that_do_not_fit_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(**changes)  # type: ignore[arg-type]


def test_keys_that_are_read_are_taken() -> None:
    assert DataConfig(name="digits", cache="off", manifest="/a.tsv").split is None
    assert DataConfig(name="imagenet_r", root="/data", cache="off", manifest="/a.tsv").grey is False


def test_reading_an_index_opens_no_image(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "mine" / split / "a").mkdir(parents=True)
        (tmp_path / "mine" / split / "a" / "x.jpg").write_bytes(b"no image")
    assert len(read_index("folder:mine", str(tmp_path)).entries) == 2
    assert file_sets.describe("folder:mine", str(tmp_path), None, None).classes == 1
