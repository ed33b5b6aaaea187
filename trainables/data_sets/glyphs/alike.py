"""Which characters look alike and which faces do; to build.

Distances are sums of whole numbers, divided once: they are the same on every machine.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Key = TypeVar("Key")
Levels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Drawn = Mapping[str, Mapping[str, Levels]]  # levels 0..15 (size, size) by face, then character

WHITE = 15
FEWEST_COMMON = 10  # faces, or characters, that two must share to be compared
IN_A_BYTE = 16  # so many levels have a sum that a byte holds
STRETCHED = 24  # pixels


def character_distances(drawn: Drawn, characters: Sequence[str]) -> Floats:
    """Mean absolute difference of ink in [0, 1] over all pixels and the faces that two share.

    (characters, characters), of all that are drawn; infinite where fewer than `FEWEST_COMMON` faces
    draw both.
    """
    place = {character: number for number, character in enumerate(characters)}
    parts = ({place[c]: levels for c, levels in images.items()} for images in drawn.values())
    return _mean_distances(parts, len(characters))


def face_distances(drawn: Drawn, faces: Sequence[str]) -> Floats:
    """The same of faces, over the characters that two share: (faces, faces)."""
    by_character: defaultdict[str, dict[int, Levels]] = defaultdict(dict)
    for number, face in enumerate(faces):
        for character, levels in drawn[face].items():
            by_character[character][number] = levels
    return _mean_distances(by_character.values(), len(faces))


def stretched(levels: Levels) -> Levels:
    """What is inked of levels (size, size), to the edges of a square: how wide it was is lost."""
    rows, columns = (np.flatnonzero((levels < WHITE).any(axis)) for axis in (1, 0))
    cut = levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    middles = 2 * np.arange(STRETCHED) + 1
    return cut[np.ix_(*(middles * side // (2 * STRETCHED) for side in cut.shape))]


def groups_of(keys: Iterable[Key], pairs: Iterable[tuple[Key, Key]]) -> list[list[Key]]:
    """Partitions keys so that both of each pair are together; in the order of the keys."""
    group_of = {key: [key] for key in keys}
    order = {key: number for number, key in enumerate(group_of)}
    for left, right in pairs:
        if group_of[left] is not group_of[right]:
            joined = sorted(group_of[left] + group_of[right], key=order.__getitem__)
            for key in joined:
                group_of[key] = joined
    return [group for key, group in group_of.items() if group[0] == key]


def pairs_below(distances: Floats, bound: float) -> list[tuple[int, int]]:
    """Pairs of rows nearer than a bound, the first of each the lower."""
    return [
        (left, right)
        for left, right in combinations(range(len(distances)), 2)
        if distances[left, right] < bound
    ]


def _mean_distances(parts: Iterable[Mapping[int, Levels]], count: int) -> Floats:
    sums = np.zeros((count, count), np.int64)
    pixels = np.zeros((count, count), np.int64)
    common = np.zeros((count, count), np.int64)
    for images in parts:
        if not images:
            continue
        rows = np.array(list(images))
        flat = np.stack([levels.ravel() for levels in images.values()])
        sums[np.ix_(rows, rows)] += _distances(flat)
        pixels[np.ix_(rows, rows)] += flat.shape[1]
        common[np.ix_(rows, rows)] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = np.where(common >= FEWEST_COMMON, sums / (pixels * WHITE), np.inf)
    return means


def _distances(flat: Levels) -> npt.NDArray[np.int64]:
    """Sums (n, n) of absolute differences of levels (n, pixels)."""
    distances = np.zeros((len(flat), len(flat)), np.int64)
    totals = flat.sum(1, dtype=np.int64)
    for row, levels in enumerate(flat[:-1]):
        # |a - b| = a + b - 2 min(a, b), and minima of bytes are quick.
        lower = np.minimum(levels, flat[row + 1 :]).reshape(len(flat) - row - 1, IN_A_BYTE, -1)
        shared = lower.sum(1, dtype=np.uint8).sum(1, dtype=np.int64)
        distances[row, row + 1 :] = totals[row] + totals[row + 1 :] - 2 * shared
    return distances + distances.T
