"""Which faces draw something else than the character, or as nobody would know it; to build."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from statistics import median

import numpy as np
import numpy.typing as npt

from trainables.data_sets.glyphs.alike import WHITE, Drawn, Levels, stretched

AMONG = 5
FEWEST_OTHERS = 10  # faces without which no mean drawing is known
COARSE = 4  # pixels of an image in a coarse one's pixel, each way

Whole = npt.NDArray[np.int64]


def recognised(drawn: Drawn) -> dict[str, dict[str, bool]]:
    """By face, whether each of its characters is known by the others' mean drawing.

    It is where that mean is among the `AMONG` nearest of the characters that the face draws, by
    the correlation of images of 8 × 8 pixels: weight says little there. Characters of few faces
    are left out, and faces with no more than `AMONG` others know none.
    """
    coarse = {
        face: {character: _coarse(levels) for character, levels in images.items()}
        for face, images in drawn.items()
    }
    sums: defaultdict[str, Whole] = defaultdict(lambda: np.zeros((), np.int64))
    counts: defaultdict[str, int] = defaultdict(int)
    for images in coarse.values():
        for character, own in images.items():
            sums[character] = sums[character] + own
            counts[character] += 1
    known = {}
    for face, images in coarse.items():
        shared = [character for character in images if counts[character] > FEWEST_OTHERS]
        if len(shared) <= AMONG:
            known[face] = dict.fromkeys(images, False)
            continue
        # Whole numbers, so that their products are exact, in whatever order they are added up.
        drawings = np.stack([images[c] for c in shared]).astype(np.float64)
        others = np.stack([sums[c] - images[c] for c in shared]).astype(np.float64)
        alike = (drawings @ others.T) / np.sqrt((others * others).sum(1)).clip(min=1.0)
        ranks = (alike > np.diag(alike)[:, None]).sum(1)
        known[face] = dict(zip(shared, (ranks < AMONG).tolist(), strict=True))
    return known


def odd_faces(drawn: Drawn, least: float) -> set[str]:
    """Faces of which less than a share of the characters is recognised.

    Such map symbols onto letters, hide text or draw bars.
    """
    return {
        face
        for face, characters in recognised(drawn).items()
        if sum(characters.values()) < max(1, least * len(characters))
    }


def odd_scripts(drawn: Drawn, script_of: Mapping[str, str], least: float) -> set[tuple[str, str]]:
    """(face, script) of which less than a share of the characters is recognised: another hand."""
    shares: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for face, characters in recognised(drawn).items():
        for character, known in characters.items():
            shares[face, script_of[character]].append(known)
    return {key for key, known in shares.items() if sum(known) < least * len(known)}


def patterned_faces(drawn: Drawn, most: float) -> set[str]:
    """Faces that fill their letters with patterns, or draw lines several times.

    Their images have over `most` times the edges of the middle drawing of the character.
    """
    edges = {
        face: {character: _edges(levels) for character, levels in images.items()}
        for face, images in drawn.items()
    }
    by_character: defaultdict[str, list[int]] = defaultdict(list)
    for counts in edges.values():
        for character, count in counts.items():
            by_character[character].append(count)
    middle = {character: median(counts) for character, counts in by_character.items()}
    return {
        face
        for face, counts in edges.items()
        if counts and median(count / middle[c] for c, count in counts.items()) > most
    }


def faces_of_capitals(
    drawn: Drawn, pairs: Collection[tuple[str, str]], bound: float, fewest: int
) -> set[str]:
    """Faces that draw capitals for small letters, of `pairs` that other faces tell apart.

    Stretched to one square, the two then differ by less than `bound` on average.
    """
    found = set()
    for face, images in drawn.items():
        differences = [
            np.abs(stretched(images[a]).astype(np.int64) - stretched(images[b])).mean() / WHITE
            for a, b in pairs
            if a in images and b in images
        ]
        if len(differences) >= fewest and sum(differences) < bound * len(differences):
            found.add(face)
    return found


def _coarse(levels: Levels) -> Whole:
    """Ink of blocks around their mean, times the number of blocks."""
    side = len(levels) // COARSE
    ink = (WHITE - levels.astype(np.int64)).reshape(side, COARSE, side, COARSE)
    blocks: Whole = ink.sum((1, 3)).ravel()
    around_mean: Whole = blocks * blocks.size - blocks.sum()
    return around_mean


def _edges(levels: Levels) -> int:
    whole = levels.astype(np.int64)
    return sum(int(np.abs(np.diff(whole, axis=axis)).sum()) for axis in (0, 1))
