import numpy as np
import pytest
import torch

from trainables import catalog
from trainables.config import DataConfig
from trainables.data.sources import SOURCES, load_arrays
from trainables.data.stream import TaskStream, class_incremental

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
    test_config = DataConfig(name="gaussian", image_size=8, tasks=5, classes=13, evaluation="test")
    confirming = class_incremental(test_config, seed=0)
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
    config = DataConfig(name="gaussian", image_size=8, tasks=5, class_order="natural")
    assert (
        class_incremental(config, 0).class_order
        == class_incremental(config, 7).class_order
        == tuple(f"gaussian_{label:02d}" for label in range(64))
    )


def test_caps_hold_per_class() -> None:
    config = DataConfig(
        name="gaussian",
        image_size=8,
        tasks=2,
        classes=4,
        train_per_class=6,
        test_per_class=3,
        evaluation="test",
    )
    for task in class_incremental(config, 0):
        assert torch.bincount(task.train.labels)[list(task.classes)].tolist() == [6, 6]
        assert torch.bincount(task.held_out.labels)[list(task.classes)].tolist() == [3, 3]


@pytest.mark.parametrize("name", sorted(catalog.DATASETS))
def test_the_catalog_says_what_the_data_set_is(name: str) -> None:
    info = catalog.dataset(name)
    assert name in SOURCES
    size = info.image_sizes[0]
    for split in info.splits:
        arrays = load_arrays(DataConfig(name=name, image_size=size, tasks=1, split=split))
        assert len(arrays.class_names) == info.classes
        assert arrays.train_images.shape[1:] == (info.channels, size, size)
        assert set(arrays.train_labels) == set(range(info.classes))
        assert np.bincount(arrays.train_labels).min() >= info.fewest_images


def test_one_class_a_task_on_all_icons() -> None:
    classes = catalog.dataset("icons").classes
    stream = class_incremental(DataConfig(tasks=classes), seed=1993)
    assert len(stream) == classes
