"""Builds the `glyphs` file and its notice from `@fontsource` npm tarballs, deterministically."""

import argparse
import hashlib
import logging
import multiprocessing
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data_sets.glyphs.alike import (
    Drawn,
    character_distances,
    face_distances,
    groups_of,
    pairs_below,
    stretched,
)
from trainables.data_sets.glyphs.characters import CANDIDATES, SCRIPT_OF
from trainables.data_sets.glyphs.fonts import Face, Image, draw_all, read_faces
from trainables.data_sets.glyphs.glyph_set import (
    GLYPH_SIZE,
    GLYPHS_FILE,
    MAGIC,
    SPLITS,
    GlyphSet,
    content_sha256,
    read_glyphs,
)
from trainables.data_sets.glyphs.odd import (
    faces_of_capitals,
    odd_faces,
    odd_scripts,
    patterned_faces,
)
from trainables.data_sets.packed import join_packed, pack

INSIDE = 24  # pixels of the longer side of a glyph
LEAST_RECOGNISED = 0.5  # share of its characters by which a face is told to draw them
LEAST_OF_SCRIPT = 0.25  # share of those of one script
MOST_EDGES = 1.15  # times those of the middle face, above which a face draws patterns
HOMOGLYPH = 0.022  # mean difference of ink below which characters of two scripts are one
ALIKE = 0.06  # below which only one of two characters is taken
SAME_LETTER = 0.1  # below which a small letter is its capital made small
SAME_SHAPE = 0.16  # the same where both are stretched to one square
OTHER_SHAPE = 0.25  # above which it is another shape than its capital
FEWEST_PAIRS = 6  # of those, by which a face is told to draw capitals for small letters
SAME_DESIGN = 0.03  # below which two faces go into one split
MIN_FACES = 55  # that a class must be drawn by
SHARES = (0.6, 0.15, 0.25)  # of the faces, by split
MOST_FACES = (42, 10, 18)  # of a class, by split
FEWEST_FACES = (30, 5, 10)
PACKAGES_FILE = Path(__file__).with_name("packages.txt")
NOTICE_NAME = "GLYPHS_NOTICE.md"
# Why faces, or scripts of them, are left out.
OTHER = "drawing something else than the character"
PATTERNED = "drawing patterns"
CAPITALS = "drawing capitals for small letters"
HANDS = "drawing a script in another hand"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GlyphClass:
    """Characters that look alike, named after the first, and its drawings by face."""

    characters: tuple[str, ...]
    images: dict[str, Image]

    @property
    def name(self) -> str:
        """Its name in Unicode, in small letters: "hiragana letter a"."""
        return unicodedata.name(self.characters[0]).lower()


def build(packages: Path, output: Path, processes: int) -> None:
    """Writes the glyphs file to `output` and the notice beside it."""
    faces = read_faces(packages, read_packages(PACKAGES_FILE))
    logger.info("read %s faces of %s families", len(faces), len({face.package for face in faces}))
    characters = "".join(CANDIDATES.values())
    drawn: Drawn = draw_faces(faces, characters, GLYPH_SIZE, INSIDE, processes)
    odd = odd_faces(drawn, LEAST_RECOGNISED)
    logger.info("left out %s faces that draw something else: %s", len(odd), sorted(odd))
    drawn = {face: images for face, images in drawn.items() if face not in odd}
    # From all faces, clear or not: their other characters serve to pretrain.
    split_of = split_faces(faces, drawn)
    told_apart = tell_apart(drawn)
    drawn, unclear = only_clear(drawn)
    classes = select_classes(drawn, told_apart, split_of)
    logger.info("kept %s classes, %s images", len(classes), sum(len(c.images) for c in classes))
    content = _encode(faces, classes, split_of)
    output.write_bytes(content)
    notice = _notice(faces, read_glyphs(content), {OTHER: odd, **unclear})
    output.with_name(NOTICE_NAME).write_text(notice, encoding="utf-8")
    logger.info("wrote %s (%.2f MB)", output.name, len(content) / 1e6)


def read_packages(path: Path) -> dict[str, tuple[str, str]]:
    """Name → (version, integrity) of lines such as "@fontsource/abel@5.2.8 sha512-…"."""
    packages = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        pinned, integrity = line.split()
        name, version = pinned.removeprefix("@fontsource/").split("@")
        packages[name] = version, integrity
    return packages


def draw_faces(
    faces: Sequence[Face], characters: str, size: int, inside: int, processes: int
) -> dict[str, dict[str, Image]]:
    """What each face draws of some characters: levels (size, size) by face and character."""
    draw = partial(draw_all, characters=characters, size=size, inside=inside)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        drawn = pool.imap(draw, faces, chunksize=1)
        return {face.name: images for face, images in zip(faces, drawn, strict=True)}


def split_faces(faces: Sequence[Face], drawn: Drawn) -> dict[str, int]:
    """The split of each face, as a number in `SPLITS`: a design is in one alone.

    Faces of a family are together, as are families with two faces nearer than `SAME_DESIGN`. The
    groups go, largest first, where their scripts have fewest faces for the share wanted.
    """
    names = [face.name for face in faces if face.name in drawn]
    package_of = {face.name: face.package for face in faces}
    near = [(names[a], names[b]) for a, b in pairs_below(face_distances(drawn, names), SAME_DESIGN)]
    of_family: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        of_family[package_of[name]].append(name)
    together = [(members[0], name) for members in of_family.values() for name in members]
    scripts = {name: _scripts(drawn[name]) for name in names}
    groups = groups_of(names, [*near, *together])
    groups.sort(key=lambda group: (-len(group), hashlib.sha256(group[0].encode()).hexdigest()))
    total = Counter(script for name in names for script in scripts[name])
    filled = [Counter[str]() for _ in SPLITS]
    split_of: dict[str, int] = {}
    for group in groups:
        own = Counter(script for name in group for script in scripts[name])

        def fullness(split: int, own: Counter[str] = own) -> float:
            return max(
                (filled[split][script] + count) / (SHARES[split] * total[script])
                for script, count in own.items()
            )

        split = min(range(len(SPLITS)), key=fullness) if own else 0
        filled[split] += own
        split_of |= dict.fromkeys(group, split)
    for split, name in enumerate(SPLITS):
        logger.info("%s: faces by script %s", name, dict(sorted(filled[split].items())))
    return split_of


def only_clear(drawn: Drawn) -> tuple[Drawn, dict[str, set[str]]]:
    """The drawings that a reader knows, and by reason which faces or scripts of one are left out.

    These are faces that draw patterns, or capitals for small letters, and scripts of a face in
    another hand.
    """
    patterned = patterned_faces(drawn, MOST_EDGES)
    drawn = {face: images for face, images in drawn.items() if face not in patterned}
    cased = {
        pair: distance for pair, distance in _case_shapes(drawn).items() if distance > OTHER_SHAPE
    }
    capital = faces_of_capitals(drawn, cased, SAME_SHAPE, FEWEST_PAIRS)
    drawn = {face: images for face, images in drawn.items() if face not in capital}
    scripts = odd_scripts(drawn, SCRIPT_OF, LEAST_OF_SCRIPT)
    clear = {
        face: {c: levels for c, levels in images.items() if (face, SCRIPT_OF[c]) not in scripts}
        for face, images in drawn.items()
    }
    hands = {f"{face} ({script})" for face, script in scripts}
    left_out = {PATTERNED: patterned, CAPITALS: capital, HANDS: hands}
    for reason, which in left_out.items():
        logger.info("left out as %s: %s", reason, sorted(which))
    return clear, left_out


def _case_shapes(drawn: Drawn) -> dict[tuple[str, str], float]:
    """Capital and small letter → their distance where each is stretched to one square."""
    pairs = [(c, c.lower()) for c in SCRIPT_OF if c.lower() != c and c.lower() in SCRIPT_OF]
    letters = sorted({character for pair in pairs for character in pair})
    squares = {
        face: {c: stretched(images[c]) for c in letters if c in images}
        for face, images in drawn.items()
    }
    distances = character_distances(squares, letters)
    place = {character: number for number, character in enumerate(letters)}
    return {(a, b): float(distances[place[a], place[b]]) for a, b in pairs}


def tell_apart(drawn: Drawn) -> list[tuple[str, ...]]:
    """The characters that are told apart, each with its homoglyphs.

    Homoglyphs of different scripts are together. Of other characters that are alike, and of a
    capital and its small letter that differ in size or width alone, the later is left out.
    """
    seen = {character for images in drawn.values() for character in images}
    characters = [character for character in SCRIPT_OF if character in seen]
    distances = character_distances(drawn, characters)
    shapes = _case_shapes(drawn)
    out: set[int] = set()
    same = []
    for left, right in combinations(range(len(characters)), 2):
        pair = characters[left], characters[right]
        near = distances[left, right]
        # Also where the capital is left out, since one that is alike is not.
        if pair in shapes and (near < SAME_LETTER or shapes[pair] < SAME_SHAPE):
            out.add(right)
        elif left in out:
            continue
        elif near < HOMOGLYPH and SCRIPT_OF[pair[0]] != SCRIPT_OF[pair[1]]:
            same.append((left, right))
        elif near < ALIKE:
            out.add(right)
    logger.info("left out as near another: %s", "".join(characters[n] for n in sorted(out)))
    kept = [number for number in range(len(characters)) if number not in out]
    joined = groups_of(kept, [pair for pair in same if not out & set(pair)])
    groups = [tuple(characters[number] for number in group) for group in joined]
    logger.info("one class: %s", " ".join("".join(group) for group in groups if len(group) > 1))
    return groups


def select_classes(
    drawn: Drawn, told_apart: Iterable[tuple[str, ...]], split_of: Mapping[str, int]
) -> list[GlyphClass]:
    """The classes of enough drawings, sorted by name.

    Of homoglyphs a face draws the first that it has. A bitmap that two faces of a class share is
    kept for the first, one in two classes is dropped from both.
    """
    classes = []
    for members in told_apart:
        images = {}
        for face in sorted(drawn):
            own = [drawn[face][c] for c in members if c in drawn[face]]
            if own:
                images[face] = own[0]
        classes.append(GlyphClass(members, images))
    classes = [GlyphClass(c.characters, images) for c, images in _without_twins(classes)]
    chosen = []
    for glyph_class in classes:
        images = _capped(glyph_class.images, split_of)
        counts = np.bincount([split_of[face] for face in images], minlength=len(SPLITS))
        if len(images) >= MIN_FACES and (counts >= FEWEST_FACES).all():
            chosen.append(GlyphClass(glyph_class.characters, images))
    return sorted(chosen, key=lambda glyph_class: glyph_class.name)


def _without_twins(classes: list[GlyphClass]) -> Iterable[tuple[GlyphClass, dict[str, Image]]]:
    owners: defaultdict[bytes, set[str]] = defaultdict(set)
    for glyph_class in classes:
        for image in glyph_class.images.values():
            owners[image.tobytes()].add(glyph_class.name)
    for glyph_class in classes:
        unique: dict[bytes, str] = {}
        for face, image in glyph_class.images.items():
            if len(owners[image.tobytes()]) == 1:
                unique.setdefault(image.tobytes(), face)
        yield glyph_class, {face: glyph_class.images[face] for face in unique.values()}


def _capped(images: dict[str, Image], split_of: Mapping[str, int]) -> dict[str, Image]:
    """At most `MOST_FACES` of each split: families first, in an order that hashes give."""

    def rank(face: str) -> tuple[bool, str]:
        package, _, _weight = face.rpartition("-")
        seen = any(other.rpartition("-")[0] == package and other < face for other in images)
        return seen, hashlib.sha256(face.encode()).hexdigest()

    kept = []
    for split, most in enumerate(MOST_FACES):
        kept += sorted((face for face in images if split_of[face] == split), key=rank)[:most]
    return {face: images[face] for face in sorted(kept)}


def _scripts(images: Mapping[str, Image]) -> list[str]:
    """Scripts of which a face has half of the candidates."""
    counts = Counter(SCRIPT_OF[character] for character in images)
    return [script for script, text in CANDIDATES.items() if 2 * counts[script] >= len(text)]


def _encode(faces: Sequence[Face], classes: list[GlyphClass], split_of: dict[str, int]) -> bytes:
    names = sorted(split_of)
    place = {name: number for number, name in enumerate(names)}
    rows = [
        (label, place[face], image)
        for label, glyph_class in enumerate(classes)
        for face, image in glyph_class.images.items()
    ]
    index = np.array([row[:2] for row in rows], "<u2").T
    blocks = {
        "index": np.ascontiguousarray(index).tobytes(),
        str(GLYPH_SIZE): pack(np.stack([row[2] for row in rows])).tobytes(),
    }
    header: dict[str, Any] = {
        "packages": sorted({(face.package, face.version, face.integrity) for face in faces}),
        "content_sha256": "",
        "images": len(rows),
        "class_names": [glyph_class.name for glyph_class in classes],
        "characters": ["".join(glyph_class.characters) for glyph_class in classes],
        "face_names": names,
        "face_splits": [SPLITS[split_of[name]] for name in names],
    }
    draft = read_glyphs(join_packed(MAGIC, header, blocks))
    return join_packed(MAGIC, header | {"content_sha256": content_sha256(draft)}, blocks)


def _notice(faces: Sequence[Face], glyphs: GlyphSet, left_out: Mapping[str, set[str]]) -> str:
    packages = [name.rpartition("-")[0] for name in glyphs.face_names]
    counts = Counter(packages[face] for face in glyphs.faces.tolist())
    splits = dict(zip(packages, glyphs.face_splits, strict=True))
    lines = [
        "# Notice for the `glyphs` data",
        "",
        "The images in `glyphs.bin` are characters drawn with fonts of the npm packages "
        "`@fontsource/…`: grey on white, scaled to one size, 16 grey levels. Each family stays "
        "under the licence of its authors; thanks to all of them. `packages.txt` pins the "
        "packages. Families of the training split served to pretrain `plain_vit`, too, by other "
        "characters.",
        "",
        *(f"Left out as {reason}: {', '.join(sorted(left_out[reason]))}.\n" for reason in left_out),
        "This file is written by `python -m trainables.data_sets.glyphs.build`.",
        "",
        "| Package | Family | Licence | Copyright | Split | Images |",
        "| --- | --- | --- | --- | --- | ---: |",
    ]
    about = {face.package: face for face in faces}
    for package, face in sorted(about.items()):
        attribution = face.attribution.replace("|", "/")
        lines.append(
            f"| {package} {face.version} | {face.family} | {face.licence} | {attribution} "
            f"| {splits.get(package, 'none')} | {counts[package]} |"
        )
    lines += ["", f"Together: {len(glyphs.labels)} images of {len(counts)} families.", ""]
    return "\n".join(lines)


def main() -> None:
    """Rebuilds the file from a folder of npm tarballs, named as `npm pack` does."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.data_sets.glyphs.build", description=__doc__
    )
    parser.add_argument("--packages", type=Path, required=True, help="folder of npm tarballs")
    parser.add_argument("--output", type=Path, default=GLYPHS_FILE, help="file to write")
    parser.add_argument("--processes", type=int, default=2, help="drawing processes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build(arguments.packages, arguments.output, arguments.processes)


if __name__ == "__main__":
    main()
