"""Images that occur twice: among training and test images, or in two classes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainables.data.cache.cache import PackedImages
from trainables.data.cache.decoding import is_archived
from trainables.data_sets.index import ImageIndex

EXAMPLES = 2


def same_images(index: ImageIndex, images: PackedImages) -> tuple[str, ...]:
    """A sentence each on test images that are trained on, and on images with two classes.

    Images are the same where all decoded pixels are, before they are shrunk; of files it is also
    told how many are so byte for byte. `images` is the cache of `index`.
    """
    is_test = np.zeros(len(images), np.bool_)
    is_test[index.rows("test")] = True
    labels, marks = index.labels, images.file_marks
    leaking, bytewise, tests = [], 0, int(is_test.sum())
    torn: list[tuple[int, int]] = []
    count = 0
    for rows in _groups(images.pixel_marks):
        train, test = rows[~is_test[rows]], rows[is_test[rows]]
        if len(train):
            leaking += [(int(train[0]), int(row)) for row in test]
            bytewise += int(np.isin(marks[test], marks[train]).sum())
        if (labels[rows] != labels[rows[0]]).any():
            count += len(rows)
            other = rows[labels[rows] != labels[rows[0]]][0]
            torn.append((int(rows[0]), int(other)))
    said = []
    if leaking:
        how = "" if is_archived(index) else f" ({bytewise} of them byte for byte)"
        said.append(
            f"{index.name}: {len(leaking)} of {tests} test images are training images, too{how}, "
            f"such as {_examples(index, leaking)}. Accuracy on test images is too high by that."
        )
    if torn:
        said.append(
            f"{index.name}: {count} images ({len(torn)} pictures) are in two classes or more, such "
            f"as {_examples(index, torn)}."
        )
    return tuple(said)


def _groups(marks: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
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
