"""Collects the concepts on which `compact_vit` is pretrained: none of them is in the benchmark."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data_sets.icons.icon_set import load_icons, load_icons_metadata
from trainables.data_sets.icons.source import (
    group_synonyms,
    is_blank,
    read_tarball,
    render_all,
    to_levels,
)
from trainables.data_sets.packed import GREY_PER_LEVEL, pack

SOURCE_SIZE = 64
MIN_NAME_FAMILIES = 4  # that a name must be drawn by to be rendered and to join a concept
MIN_FAMILIES = 6  # that a pretraining concept must be drawn by

# Words of style and size make a name a variant of the concept that the other words name.
STYLES = frozenset([
    "outline", "outlined", "fill", "filled", "solid", "bold", "semibold", "thin", "light",
    "regular", "line", "linear", "lined", "stroke", "broken", "duo", "duotone", "twotone",
    "two", "tone", "flat", "round", "rounded", "sharp", "baseline", "remix", "rotated",
    "animated", "color", "colored", "mono", "bx", "bxs", "bxl", "ltr", "rtl",
])  # fmt: skip
SIZES = frozenset(map(str, (8, 10, 11, 12, 14, 15, 16, 20, 24, 28, 32, 48, 64, 96))) | {
    "16px", "20px", "24px", "32px"
}  # fmt: skip
# Dropped only where names are compared with those of the benchmark.
LOOSE = frozenset([
    "o", "f", "alt", "variant", "icon", "small", "medium", "large", "big", "mini",
    "expressive", "off", "on",
])  # fmt: skip


@dataclass(frozen=True)
class PretrainingSet:
    """Drawings at 64 px: `packed` (n, 64, 32) two levels 0..15 a byte, `labels` and `pairs` (n,).

    `pairs` numbers the (concept, family) that a drawing is a variant of.
    """

    packed: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    class_names: tuple[str, ...]


def concept_of(name: str) -> str:
    """Return the concept a drawing's name is a variant of, without words for style or size."""
    tokens = name.split("-")
    while len(tokens) > 1 and tokens[-1] in STYLES | SIZES:
        tokens.pop()
    while len(tokens) > 1 and tokens[0] in STYLES:
        tokens.pop(0)
    return "-".join(sorted(tokens))


def strict_key(name: str) -> str:
    """Return a coarser key: word order, numbers, plural s and loose qualifiers don't count."""
    tokens = {token for token in name.split("-") if not token.isdigit()}
    tokens = tokens - STYLES - SIZES - LOOSE or set(name.split("-"))
    return "-".join(sorted(t.removesuffix("s") if len(t) > 3 else t for t in tokens))


def collect(tarball: Path, processes: int) -> PretrainingSet:
    """Render all variants of all concepts outside the benchmark; ValueError for another tarball.

    A concept is left out if its name has a benchmark name's strict key, or if it shares one bitmap
    with a benchmark image. A bitmap is left out if any variant of a benchmark name has it too.
    """
    metadata = load_icons_metadata()
    package = read_tarball(tarball)
    if package.sha256 != metadata["sha256"]:
        raise ValueError(
            f"the tarball must be the benchmark's ({metadata['sha256']}), but got {package.sha256}."
        )
    banned_keys = {strict_key(name) for names in metadata["classes"] for name in names}
    drawers: defaultdict[str, set[str]] = defaultdict(set)
    for family in package.families:
        for name in family.drawings:
            drawers[concept_of(name)].add(family.prefix)
    jobs: list[tuple[str | None, str]] = []
    svgs: list[str] = []
    for family in package.families:
        for name, svg in family.drawings.items():
            concept = concept_of(name)
            banned = bool({strict_key(name), strict_key(concept)} & banned_keys)
            if banned or len(drawers[concept]) >= MIN_NAME_FAMILIES:
                jobs.append((None if banned else concept, family.prefix))
                svgs.append(svg)
    rendered = render_all(svgs, (SOURCE_SIZE,), processes)
    return _select(jobs, (to_levels(images[0]) for images in rendered))


def joined(first: PretrainingSet, second: PretrainingSet) -> PretrainingSet:
    """Both sets as one, whose classes are all of the first and then all of the second."""
    return PretrainingSet(
        np.concatenate([first.packed, second.packed]),
        np.concatenate([first.labels, second.labels + len(first.class_names)]),
        np.concatenate([first.pairs, second.pairs + first.pairs.max() + 1]),
        first.class_names + second.class_names,
    )


def check_disjoint(pretraining: PretrainingSet) -> None:
    """Raise RuntimeError if a name key or a bitmap of the benchmark is in the pretraining set."""
    banned = {strict_key(n) for names in load_icons_metadata()["classes"] for n in names}
    names = {name for joined in pretraining.class_names for name in joined.split("+")}
    shared = sorted(name for name in names if strict_key(name) in banned)
    if shared:
        raise RuntimeError(f"pretraining concepts must not be in the benchmark, but are: {shared}.")
    benchmark = _benchmark_bitmaps()
    if any(image.tobytes() in benchmark for image in pretraining.packed):
        raise RuntimeError("a pretraining image is also a benchmark image.")


def _select(
    jobs: list[tuple[str | None, str]], images: Iterable[npt.NDArray[np.uint8]]
) -> PretrainingSet:
    benchmark = _benchmark_bitmaps()
    avoided, refused = set(benchmark), set()
    drawings: dict[tuple[str, str, bytes], None] = {}
    for (concept, family), levels in zip(jobs, images, strict=True):
        bitmap = pack(levels).tobytes()
        if concept is None:
            avoided.add(bitmap)
        elif not is_blank(levels):
            drawings[concept, family, bitmap] = None
            if bitmap in benchmark:
                refused.add(concept)
    kept = [d for d in drawings if d[0] not in refused and d[2] not in avoided]
    groups = group_synonyms((concept, family, (bitmap,)) for concept, family, bitmap in kept)
    group_of = {name: "+".join(names) for names in groups for name in names}
    owners: defaultdict[bytes, set[str]] = defaultdict(set)
    for concept, _, bitmap in kept:
        owners[bitmap].add(group_of[concept])
    chosen = {  # the first family keeps a bitmap that several families share
        bitmap: (group_of[concept], family)
        for concept, family, bitmap in reversed(kept)
        if len(owners[bitmap]) == 1
    }
    families: defaultdict[str, set[str]] = defaultdict(set)
    for name, family in chosen.values():
        families[name].add(family)
    names = sorted(name for name in families if len(families[name]) >= MIN_FAMILIES)
    label_of = {name: label for label, name in enumerate(names)}
    rows = sorted((label_of[n], f, b) for b, (n, f) in chosen.items() if n in label_of)
    pair_of = {pair: i for i, pair in enumerate(dict.fromkeys((row[0], row[1]) for row in rows))}
    packed = np.frombuffer(b"".join(row[2] for row in rows), np.uint8)
    return PretrainingSet(
        packed.reshape(-1, SOURCE_SIZE, SOURCE_SIZE // 2),
        np.array([row[0] for row in rows], np.int64),
        np.array([pair_of[row[0], row[1]] for row in rows], np.int64),
        tuple(names),
    )


def _benchmark_bitmaps() -> set[bytes]:
    return {
        packed.tobytes()
        for packed in pack(load_icons(SOURCE_SIZE).images // np.uint8(GREY_PER_LEVEL))
    }
