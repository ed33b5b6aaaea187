"""Class-incremental task streams: which classes and images each task brings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.config_groups import DataConfig, validation_images
from trainables.data.sources import LabelledArrays, load_arrays

# Which classes and images a capped study keeps must not move with the trial's seed.
SUBSET_SEED = 0


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 (n, channels, height, width) with labels int64 (n,) in head order."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.images.shape[0]


@dataclass(frozen=True)
class Task:
    """A group of new classes: its positions in head order, training and held-out images.

    `held_out` are validation or test images, as the stream's `split` says: a stream cut for
    tuning holds no test image at all.
    """

    index: int
    classes: range
    train: ImageSet
    held_out: ImageSet


@dataclass(frozen=True)
class TaskStream:
    """An indexable sequence of tasks; `split` is "val" or "test"; `class_order` names classes."""

    tasks: tuple[Task, ...]
    split: str
    class_order: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> Task:
        return self.tasks[index]

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)


def class_incremental(config: DataConfig, seed: int) -> TaskStream:
    """Cuts a data set into `config.tasks` groups of classes, sizes as even as possible.

    `seed` shuffles the class order. Validation images are cut per class from the training
    images, at least one of each.

    Raises:
        ValueError: if a class has no test image, or too few training images to cut from.
    """
    arrays = load_arrays(config)
    subset = np.random.default_rng(SUBSET_SEED).permutation(len(arrays.class_names))
    chosen = np.sort(subset[: config.classes_in_use])
    if config.class_order == "shuffled":
        chosen = np.random.default_rng(seed).permutation(chosen)
    groups = np.array_split(np.arange(len(chosen)), config.tasks)
    tasks = []
    for index, group in enumerate(groups):
        train, held_out = [], []
        for position in group:
            kept, out = _cut(arrays, int(chosen[position]), config)
            train.append((kept, position))
            held_out.append((out, position))
        tasks.append(
            Task(
                index=index,
                classes=range(int(group[0]), int(group[-1]) + 1),
                train=_image_set(train),
                held_out=_image_set(held_out),
            )
        )
    return TaskStream(
        tasks=tuple(tasks),
        split="val" if config.evaluation == "validation" else "test",
        class_order=tuple(arrays.class_names[label] for label in chosen),
    )


def _cut(
    arrays: LabelledArrays, label: int, config: DataConfig
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Training and held-out images of one class, in an order that no seed of a trial moves."""
    name = arrays.class_names[label]
    rng = np.random.default_rng((SUBSET_SEED, label))
    train = rng.permutation(np.flatnonzero(arrays.train_labels == label))
    train = train[: config.train_per_class]
    if config.evaluation == "test":
        test = rng.permutation(np.flatnonzero(arrays.test_labels == label))
        if not len(test) or not len(train):
            raise ValueError(
                f"every class needs a training and a test image, but class {name!r} of "
                f"{config.name} has {len(train)} and {len(test)}."
            )
        return arrays.train_images[train], arrays.test_images[test[: config.test_per_class]]
    count = validation_images(len(train), config.validation_share)
    if len(train) - count < 1:
        raise ValueError(
            f"data.validation_share {config.validation_share} leaves no training image: class "
            f"{name!r} of {config.name} has {len(train)}, and {count} would be held out."
        )
    return arrays.train_images[train[count:]], arrays.train_images[train[:count]]


def _image_set(parts: list[tuple[NDArray[np.uint8], int]]) -> ImageSet:
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([np.full(len(images), label) for images, label in parts])
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))
