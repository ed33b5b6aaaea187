import dataclasses
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from tests.trainables.data_sets import trees
from trainables.config import DataConfig, catalog
from trainables.data import embedded, prepare
from trainables.data.embedded import SOURCES
from trainables.data.sources import load_arrays
from trainables.data.stream import TaskStream, chosen_classes, class_incremental
from trainables.data_sets.index import SPLITS, Entry
from trainables.data_sets.manifest import Manifest

GAUSSIAN = DataConfig(name="gaussian", image_size=8, tasks=5, classes=13)


def all_images(stream: TaskStream, part: str) -> set[bytes]:
    return {image.numpy().tobytes() for task in stream for image in getattr(task, part).images}


def test_tasks_cover_the_classes_as_evenly_as_possible() -> None:
    stream = class_incremental(GAUSSIAN, seed=0)
    assert [len(task.classes) for task in stream] == [3, 3, 3, 2, 2]
    assert [c for task in stream for c in task.classes] == list(range(13))
    for task in stream:
        assert set(task.train.labels.tolist()) == set(task.classes)
        assert set(task.held_out.labels.tolist()) == set(task.classes)


def test_validation_is_cut_from_training_images_and_tests_stay_unseen() -> None:
    tuning = class_incremental(GAUSSIAN, seed=0)
    confirming = class_incremental(dataclasses.replace(GAUSSIAN, evaluation="test"), seed=0)
    assert (tuning.split, confirming.split) == ("val", "test")
    held, trained = all_images(tuning, "held_out"), all_images(tuning, "train")
    assert not held & trained
    assert held | trained == all_images(confirming, "train")
    assert not all_images(confirming, "held_out") & (held | trained)


def test_seed_moves_the_class_order_but_not_the_classes() -> None:
    orders = [class_incremental(GAUSSIAN, seed).class_order for seed in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert class_incremental(GAUSSIAN, 0).class_order == orders[0]


def test_natural_order_ignores_the_seed() -> None:
    config = dataclasses.replace(GAUSSIAN, class_order="natural", classes=None)
    for seed in (0, 7):
        order = class_incremental(config, seed).class_order
        assert order == tuple(f"gaussian_{label:02d}" for label in range(64))


def test_caps_hold_per_class() -> None:
    config = dataclasses.replace(GAUSSIAN, tasks=2, classes=4, evaluation="test")
    config = dataclasses.replace(config, train_per_class=6, test_per_class=3)
    for task in class_incremental(config, 0):
        assert torch.bincount(task.train.labels)[list(task.classes)].tolist() == [6, 6]
        assert torch.bincount(task.held_out.labels)[list(task.classes)].tolist() == [3, 3]


@pytest.fixture
def parted(monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """A set without files that names its validation images: of a class 6, 3 of them, 4 to test."""
    kinds = np.repeat(SPLITS, (6, 3, 4)).tolist() * 2
    entries = tuple(
        Entry(f"{row // 13}/{row}", row // 13, split) for row, split in enumerate(reversed(kinds))
    )
    images = np.arange(26 * 4, dtype=np.uint8).reshape(26, 2, 2)
    drawn = images, Manifest("parted", ("a", "b"), entries)
    info = catalog.DatasetInfo(2, (2,), 1, 6, validation=True)
    monkeypatch.setattr(catalog, "DATASETS", {**catalog.DATASETS, "parted": info})
    monkeypatch.setattr(embedded, "SOURCES", {"parted": lambda size, split: drawn})
    return DataConfig(name="parted", image_size=2, tasks=2)


def parts(config: DataConfig) -> list[tuple[Counter[str], Counter[str]]]:
    """How many images of which split the tasks train on and hold out."""
    splits = [entry.split for entry in prepare.split_of(config).entries]
    return [
        (
            Counter(splits[row] for row in task.train.rows),
            Counter(splits[row] for row in task.held_out.rows),
        )
        for task in class_incremental(config, seed=0)
    ]


def test_a_data_set_may_name_its_validation_images(parted: DataConfig) -> None:
    tuning, confirming = parted, dataclasses.replace(parted, evaluation="test")
    assert parts(tuning) == [({"train": 6}, {"validation": 3})] * 2
    assert parts(confirming) == [({"train": 6, "validation": 3}, {"test": 4})] * 2
    # In an order that says nothing of theirs, and that no seed moves.
    rows = [task.held_out.rows.tolist() for task in class_incremental(tuning, seed=0)]
    assert sorted(rows) != sorted(map(sorted, rows))
    again = [task.held_out.rows.tolist() for task in class_incremental(tuning, seed=1)]
    assert sorted(again) == sorted(rows)


def test_caps_hold_where_validation_images_are_named(parted: DataConfig) -> None:
    few = dataclasses.replace(parted, train_per_class=5, test_per_class=2)
    assert parts(few) == [({"train": 5}, {"validation": 2})] * 2
    for train, test in parts(dataclasses.replace(few, evaluation="test")):
        assert (train.total(), test) == (5, {"test": 2})
        # Drawn from both alike.
        assert set(train) == {"train", "validation"}
    one = dataclasses.replace(parted, train_per_class=1)
    assert parts(one) == [({"train": 1}, {"validation": 3})] * 2


def test_what_is_known_of_named_validation_images_is_checked(
    parted: DataConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path))
    assert "2 classes, 12 training, 6 validation and 8 test images" in str(prepare.prepare(parted))
    message = (
        r"data\.validation_share must be 0\.2 for parted, which names its validation images "
        r"itself, but got 0\.5\."
    )
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(parted, validation_share=0.5)
    # Of files nobody may have known it before they were read.
    unknown = catalog.DatasetInfo(2, (2,), 1, 6)
    monkeypatch.setattr(catalog, "DATASETS", {"parted": unknown})
    for evaluation in ("validation", "test"):
        config = dataclasses.replace(parted, validation_share=0.5, evaluation=evaluation)
        with pytest.raises(ValueError, match=message):
            class_incremental(config, seed=0)


def test_other_sets_are_cut_as_they_were_before_some_named_validation_images(
    tmp_path: Path,
) -> None:
    images = np.arange(24 * 4, dtype=np.uint8).reshape(24, 2, 2)
    split = np.repeat(["train", "test"], [16, 8])
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(24) % 2, split=split)
    config = DataConfig(name="npz:mine", root=str(tmp_path), tasks=2, image_size=2)
    config = dataclasses.replace(config, train_per_class=7, test_per_class=3)
    # All three are of the release 7ecf164.
    rows: dict[Literal["validation", "test"], list[tuple[list[int], list[int]]]] = {
        "validation": [([8, 6, 12, 10, 0, 2], [4]), ([7, 15, 13, 1, 9, 5], [3])],
        "test": [
            ([4, 8, 6, 12, 10, 0, 2], [18, 20, 16]),
            ([3, 7, 15, 13, 1, 9, 5], [23, 19, 21]),
        ],
    }
    sha256 = "d71eac1173582e62bfdeacc77c79bf1e30263ad4dbccf0df853661ad378edc26"
    assert prepare.split_of(config).sha256 == sha256
    for evaluation, expected in rows.items():
        stream = class_incremental(dataclasses.replace(config, evaluation=evaluation), seed=0)
        got = [(task.train.rows.tolist(), task.held_out.rows.tolist()) for task in stream]
        assert got == expected


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_catalog_says_what_the_data_set_is(name: str) -> None:
    info = catalog.dataset(name)
    assert info.files is None and info.image_sizes and info.fewest_images
    size = info.image_sizes[0]
    for split in info.splits:
        arrays = load_arrays(DataConfig(name=name, image_size=size, tasks=1, split=split))
        assert len(arrays.class_names) == info.classes
        train_labels = arrays.labels[arrays.train_rows]
        assert isinstance(arrays.images, np.ndarray)
        assert arrays.images.shape[1:] == (info.channels, size, size)
        assert set(train_labels) == set(range(info.classes))
        assert np.bincount(train_labels).min() >= info.fewest_images
        named = set(arrays.labels[arrays.validation_rows])
        assert named == (set(range(info.classes)) if info.validation else set())


def test_one_class_a_task_on_all_icons() -> None:
    classes = catalog.dataset("icons").classes
    stream = class_incremental(DataConfig(tasks=classes), seed=1993)
    assert len(stream) == classes


@pytest.mark.parametrize("tasks", range(1, 14))
def test_any_number_of_tasks_takes_every_class_once(tasks: int) -> None:
    sizes = dataclasses.replace(GAUSSIAN, tasks=tasks).task_sizes
    assert (len(sizes), sum(sizes)) == (tasks, 13)
    assert max(sizes) - min(sizes) <= 1
    assert list(sizes) == [len(part) for part in np.array_split(np.arange(13), tasks)]


def test_a_larger_first_task_is_followed_by_equal_ones() -> None:
    config = dataclasses.replace(GAUSSIAN, tasks=4, first_classes=7)
    stream = class_incremental(config, seed=0)
    borders = [(task.classes.start, task.classes.stop) for task in stream]
    assert borders == [(0, 7), (7, 9), (9, 11), (11, 13)]
    # The order of the classes is the same: only the borders move.
    assert stream.class_order == class_incremental(GAUSSIAN, seed=0).class_order
    published = dataclasses.replace(GAUSSIAN, classes=60, tasks=6, first_classes=50)
    assert published.task_sizes == (50, 2, 2, 2, 2, 2)


@pytest.mark.parametrize(("tasks", "first"), [(4, 0), (4, 11), (1, 12), (13, 2)])
def test_a_first_task_that_leaves_another_empty_is_refused(tasks: int, first: int) -> None:
    with pytest.raises(ValueError, match=r"data\.first_classes must be in"):
        dataclasses.replace(GAUSSIAN, tasks=tasks, first_classes=first)


STREAM_SHA256 = "d9e8c930ba67eb4a15078d9b4fbef405f01c1a5f5c1e88ffe3894b1fe38aa8e1"
# Rows and labels of all tasks and the order of the classes: what makes results comparable.
STREAM_HASH = """
import hashlib, sys
from trainables.config import DataConfig
from trainables.data.stream import class_incremental

digest = hashlib.sha256()
for config in (
    DataConfig(name="icons", tasks=10, train_per_class=12),
    DataConfig(name="icons", tasks=7, split="unseen_family", evaluation="test"),
    DataConfig(name="gaussian", image_size=8, tasks=6, first_classes=14, classes=40),
    DataConfig(name="folder:mine", root=sys.argv[1], tasks=2, split="random"),
):
    for seed in (0, 1993):
        stream = class_incremental(config, seed)
        digest.update(repr(stream.class_order).encode())
        for task in stream:
            for part in (task.train, task.held_out):
                digest.update(repr((task.classes, part.rows.tolist())).encode())
                digest.update(repr(part.labels.tolist()).encode())
print(digest.hexdigest())
"""


@pytest.mark.process
def test_the_stream_is_the_same_in_every_process(tmp_path: Path) -> None:
    trees.class_folders(tmp_path / "data" / "mine", ["b", "a", "c"], images=9)
    done = subprocess.run(
        [sys.executable, "-c", STREAM_HASH, str(tmp_path / "data")],
        env={**os.environ, "PYTHONHASHSEED": "random", "LRCS_CACHE_ROOT": str(tmp_path / "cache")},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == STREAM_SHA256, done.stderr


def test_the_published_order_of_a_seed_is_that_of_numpys_legacy_generator() -> None:
    config = DataConfig(name="icons", classes=100, class_order="published")
    order = chosen_classes(config, 1993, 100)
    assert order[:6].tolist() == [68, 56, 78, 8, 23, 84]
    assert sorted(order) == list(range(100))
    some = chosen_classes(dataclasses.replace(config, classes=10), 1993, 100)
    assert sorted(some) == sorted(chosen_classes(dataclasses.replace(config, classes=10), 5, 100))
