"""Images that occur twice: among training and held-out images, or in two classes."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainables.data.cache.cache import PackedImages
from trainables.data.cache.decoding import is_archived
from trainables.data_sets.index import ImageIndex, Split

EXAMPLES = 2
Rows: TypeAlias = NDArray[np.int64]


def same_images(index: ImageIndex, images: PackedImages) -> tuple[str, ...]:
    """A sentence each on held-out images that are trained on, and on images with two classes.

    Held out are test images, from all others, and validation images that the data set names
    itself, from its training images. Images are the same where all decoded pixels are, before they
    are shrunk; of files it is also told how many are so byte for byte. `images` is the cache of
    `index`.
    """
    groups, labels = list(_groups(images.pixel_marks)), index.labels
    said = _leaks(index, images, groups, "validation", ("train",))
    said += _leaks(index, images, groups, "test", ("train", "validation"))
    torn: list[tuple[int, int]] = []
    count = 0
    for rows in groups:
        if (labels[rows] != labels[rows[0]]).any():
            count += len(rows)
            other = rows[labels[rows] != labels[rows[0]]][0]
            torn.append((int(rows[0]), int(other)))
    if torn:
        said.append(
            f"{index.name}: {count} images ({len(torn)} pictures) are in two classes or more, such "
            f"as {_examples(index, torn)}."
        )
    return tuple(said)


def _leaks(
    index: ImageIndex,
    images: PackedImages,
    groups: list[Rows],
    held: Split,
    trained: tuple[Split, ...],
) -> list[str]:
    """A sentence on the images of the split `held` that are those of a training image, too."""
    is_held, is_trained = np.zeros((2, len(images)), np.bool_)
    is_held[index.rows(held)] = True
    for split in trained:
        is_trained[index.rows(split)] = True
    pairs, bytewise, marks = [], 0, images.file_marks
    for group in groups:
        train, out = group[is_trained[group]], group[is_held[group]]
        if len(train):
            pairs += [(int(train[0]), int(row)) for row in out]
            bytewise += int(np.isin(marks[out], marks[train]).sum())
    if not pairs:
        return []
    how = "" if is_archived(index) else f" ({bytewise} of them byte for byte)"
    return [
        f"{index.name}: {len(pairs)} of {is_held.sum()} {held} images are training images, too"
        f"{how}, such as {_examples(index, pairs)}. Accuracy on {held} images is too high by that."
    ]


def _groups(marks: NDArray[np.int64]) -> Iterator[Rows]:
    """Rows, ascending, of each mark that more than one has; in the order of the first rows."""
    order = np.argsort(marks, kind="stable")
    starts = np.flatnonzero(np.diff(marks[order], prepend=~marks[order[:1]]))
    lengths = np.diff(starts, append=len(order))
    several = zip(starts[lengths > 1].tolist(), lengths[lengths > 1].tolist(), strict=True)
    groups = [order[start : start + length] for start, length in several]
    return iter(sorted(groups, key=lambda rows: int(rows[0])))


def _examples(index: ImageIndex, pairs: list[tuple[int, int]]) -> str:
    entries = index.entries
    return " and ".join(
        f"{entries[first].path!r} = {entries[second].path!r}" for first, second in pairs[:EXAMPLES]
    )
