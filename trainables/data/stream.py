"""Class-incremental task streams: which classes and images each task brings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.config import DataConfig, check_share_unread, validation_images
from trainables.data.images import ImageSource, image_source
from trainables.data.sources import LabelledArrays, load_arrays

# Which classes and images a capped study keeps must not move with the trial's seed.
SUBSET_SEED = 0
Rows: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """Some rows of the images of a data set, with labels int64 (n,) in head order.

    It holds row numbers: however many sets share a source, its images are there once.
    """

    source: ImageSource
    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def images(self) -> Tensor:
        """All images at once as they are evaluated, uint8 (n, channels, size, size): copies."""
        return self.source.views(self.rows)

    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in order as they are evaluated, at most `size` at a time."""
        for rows in self.rows.split(size):
            yield self.source.views(rows)

    def by_class(self) -> tuple[Tensor, ...]:
        """The rows of each run of images of one class; in a stream they are the same in any task.

        A trial's seed moves classes, and not what is used of them or in which order.
        """
        _, counts = torch.unique_consecutive(self.labels, return_counts=True)
        runs: tuple[Tensor, ...] = self.rows.split(counts.tolist())
        return runs

    def first(self, count: int) -> "ImageSet":
        """The first `count` of its images."""
        return ImageSet(self.source, self.rows[:count], self.labels[:count])


@dataclass(frozen=True)
class Task:
    """A group of new classes: its positions in head order, training and held-out images.

    `held_out` are validation or test images, as the stream's `split` says: a stream cut for
    tuning holds no row of a test image.
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


def class_incremental(
    config: DataConfig, seed: int, device: torch.device | None = None
) -> TaskStream:
    """Cuts a data set into tasks of `config.task_sizes` classes.

    `seed` shuffles the class order. Validation images are cut per class from the training
    images, at least one of each, unless the data set names them itself. Labels and batches are on
    `device` (None: the CPU). ValueError if a class has no test image, too few training images
    to cut from, or validation images of its own beside another share than the default.
    """
    device = torch.device("cpu") if device is None else device
    arrays = load_arrays(config)
    parts = _parts(arrays, config)
    source = image_source(arrays.images, config.image_size, device)
    chosen = chosen_classes(config, seed, len(arrays.class_names))
    groups = np.split(np.arange(len(chosen)), np.cumsum(config.task_sizes)[:-1])
    tasks = []
    for index, group in enumerate(groups):
        train, held_out = [], []
        for position in group:
            kept, out = _cut(arrays, int(chosen[position]), config, *parts)
            train.append((kept, position))
            held_out.append((out, position))
        tasks.append(
            Task(
                index=index,
                classes=range(int(group[0]), int(group[-1]) + 1),
                train=_image_set(source, train),
                held_out=_image_set(source, held_out),
            )
        )
    return TaskStream(
        tasks=tuple(tasks),
        split="val" if config.evaluation == "validation" else "test",
        class_order=tuple(arrays.class_names[label] for label in chosen),
    )


def chosen_classes(config: DataConfig, seed: int, classes: int) -> NDArray[np.int64]:
    """The labels that are used of a data set with so many classes, in head order."""
    subset = np.random.default_rng(SUBSET_SEED).permutation(classes)
    chosen = np.sort(subset[: config.classes_in_use])
    if config.class_order == "shuffled":
        chosen = np.random.default_rng(seed).permutation(chosen)
    elif config.class_order == "published":
        chosen = chosen[np.random.RandomState(seed).permutation(len(chosen))]
    return chosen


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """The sets of one stream one after the other."""
    return ImageSet(
        sets[0].source,
        torch.cat([images.rows for images in sets]),
        torch.cat([images.labels for images in sets]),
    )


def _parts(arrays: LabelledArrays, config: DataConfig) -> tuple[Rows, Rows | None]:
    """Rows that are trained on and that are held out; None where these are to be cut from them."""
    named = arrays.validation_rows
    if len(named):
        check_share_unread(config)
    if config.evaluation == "test":
        return np.sort(np.concatenate([arrays.train_rows, named])), arrays.test_rows
    return arrays.train_rows, named if len(named) else None


def _cut(
    arrays: LabelledArrays, label: int, config: DataConfig, trained: Rows, held_out: Rows | None
) -> tuple[Rows, Rows]:
    """Rows of training and held-out images of a class, in an order that no trial's seed moves."""
    whose = f"class {arrays.class_names[label]!r} of {config.name}"
    rng = np.random.default_rng((SUBSET_SEED, label))
    train = rng.permutation(_of_class(arrays, trained, label))
    train = train[: config.train_per_class]
    if held_out is not None:
        out = rng.permutation(_of_class(arrays, held_out, label))
        if not len(out) or not len(train):
            raise ValueError(
                f"every class needs a training and a {config.evaluation} image, but {whose} has "
                f"{len(train)} and {len(out)}."
            )
        return train, out[: config.test_per_class]
    count = validation_images(len(train), config.validation_share, whose)
    return train[count:], train[:count]


def _of_class(arrays: LabelledArrays, rows: Rows, label: int) -> Rows:
    own: Rows = rows[arrays.labels[rows] == label]
    return own


def _image_set(source: ImageSource, parts: list[tuple[NDArray[np.int64], int]]) -> ImageSet:
    rows = np.concatenate([rows for rows, _ in parts])
    labels = np.concatenate([np.full(len(rows), label) for rows, label in parts])
    return ImageSet(
        source,
        torch.from_numpy(rows),
        torch.from_numpy(labels.astype(np.int64)).to(source.device),
    )
