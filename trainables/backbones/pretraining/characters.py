"""Draws the characters on which `plain_vit` is pretrained: none of them is in `glyphs`."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.backbones.pretraining.concepts import SOURCE_SIZE, PretrainingSet
from trainables.data_sets.glyphs.build import ALIKE, PACKAGES_FILE, draw_faces, read_packages
from trainables.data_sets.glyphs.fonts import read_faces
from trainables.data_sets.glyphs.glyph_set import load_glyphs, load_glyphs_metadata
from trainables.data_sets.packed import pack

CHARACTER = "character "  # how their names begin, as no concept's does
INSIDE = 48  # pixels of the longer side, of 64: as large as a class of `glyphs` in its 32
# Of a script's characters so many are drawn at random, and kept where enough faces have them.
SCRIPTS = (("cjk unified ideographs", "euc_jp", (0xB0, 0xCF), 1500, 30),
           ("hangul syllables", "euc_kr", (0xB0, 0xC8), 400, 20))  # fmt: skip
SEED = 0


def collect_characters(packages: Path, processes: int) -> PretrainingSet:
    """Draws other characters than those of `glyphs`, with the families of its training split.

    Left out: characters whose mean drawing is nearer than `ALIKE` to that of a class of `glyphs`.
    `pairs` numbers the drawings.
    """
    metadata = load_glyphs_metadata()
    splits = dict(zip(metadata["face_names"], metadata["face_splits"], strict=True))
    faces = [
        face
        for face in read_faces(packages, read_packages(PACKAGES_FILE))
        if splits.get(face.name) == "train"
    ]
    candidates = dict(_candidates("".join(metadata["characters"])))
    drawn = draw_faces(faces, "".join(candidates), SOURCE_SIZE, INSIDE, processes)
    images: dict[str, dict[bytes, npt.NDArray[np.uint8]]] = {c: {} for c in candidates}
    for face in sorted(drawn):
        for character, levels in drawn[face].items():
            images[character].setdefault(levels.tobytes(), levels)
    known = _class_means()
    kept = {
        character: list(own.values())
        for character, own in images.items()
        if len(own) >= candidates[character] and _distance(list(own.values()), known) >= ALIKE
    }
    rows = [(label, levels) for label, own in enumerate(kept.values()) for levels in own]
    return PretrainingSet(
        np.stack([pack(levels) for _, levels in rows]),
        np.array([label for label, _ in rows], np.int64),
        np.arange(len(rows), dtype=np.int64),
        tuple(f"{CHARACTER}{character}" for character in kept),
    )


def check_characters(pretraining: PretrainingSet) -> None:
    """Raise RuntimeError if a character of `glyphs` is a class of the pretraining set."""
    used = set("".join(load_glyphs_metadata()["characters"]))
    shared = sorted(
        name
        for name in pretraining.class_names
        if name.startswith(CHARACTER) and name.removeprefix(CHARACTER) in used
    )
    if shared:
        raise RuntimeError(f"pretraining classes must not be in glyphs, but are: {shared}.")


def _candidates(used: str) -> Iterable[tuple[str, int]]:
    """Characters with the number of faces that must draw them."""
    generator = np.random.default_rng(SEED)
    for _, codec, (first, last), count, least in SCRIPTS:
        table = [
            bytes([row, column]).decode(codec, errors="ignore")
            for row in range(first, last + 1)
            for column in range(0xA1, 0xFF)
        ]
        others = [character for character in table if character and character not in used]
        for place in sorted(generator.choice(len(others), count, replace=False).tolist()):
            yield others[place], least


def _class_means() -> npt.NDArray[np.float32]:
    """Mean ink (classes, 32, 32) of each class of `glyphs`, over its training faces."""
    glyphs = load_glyphs()
    training = np.array([split == "train" for split in glyphs.face_splits])[glyphs.faces]
    means = [
        1 - glyphs.images[training & (glyphs.labels == label)].mean(0) / 255
        for label in range(len(glyphs.class_names))
    ]
    return np.stack(means).astype(np.float32)


def _distance(drawings: list[npt.NDArray[np.uint8]], known: npt.NDArray[np.float32]) -> float:
    """Of the mean drawing, made half as large, from the nearest class: mean difference of ink."""
    ink = 1 - np.stack(drawings).mean(0) / 15
    half = ink.reshape(SOURCE_SIZE // 2, 2, SOURCE_SIZE // 2, 2).mean((1, 3))
    return float(np.abs(known - half).mean((1, 2)).min())
