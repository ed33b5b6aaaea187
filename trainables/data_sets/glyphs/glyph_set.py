"""The embedded `glyphs`: a class a character, an image how a font face draws it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data_sets.index import Split
from trainables.data_sets.packed import Bytes, read_packed

GLYPHS_FILE = Path(__file__).with_name("glyphs.bin")
GLYPH_SIZE = 32
MAGIC = b"GLYPHS01"
KIND = "a glyphs file"
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GlyphSet:
    """All images, ordered by class and then by face.

    `images` (n, 32, 32) is grey on white (255) in steps of 17; `labels` and `faces` (n,) index
    `class_names` and `face_names`; `face_splits` says what each face's images are for. A font
    family, with those that draw as it does, is in one split.
    """

    images: Bytes
    labels: Labels
    faces: Labels
    class_names: tuple[str, ...]
    face_names: tuple[str, ...]
    face_splits: tuple[Split, ...]


def load_glyphs() -> GlyphSet:
    """Reads the set that comes along."""
    return read_glyphs(GLYPHS_FILE.read_bytes())


def read_glyphs(content: bytes) -> GlyphSet:
    """Decodes the bytes of a built file; ValueError if they are not one."""
    file = read_packed(content, MAGIC, KIND)
    index = np.frombuffer(file.block("index"), "<u2").reshape(2, int(file.header["images"]))
    labels, faces = index.astype(np.int64)
    return GlyphSet(
        file.images(str(GLYPH_SIZE), GLYPH_SIZE),
        labels,
        faces,
        tuple(file.header["class_names"]),
        tuple(file.header["face_names"]),
        tuple(file.header["face_splits"]),
    )


def load_glyphs_metadata() -> dict[str, Any]:
    """Reads the file's header.

    Keys: `content_sha256`, `images`, `class_names`, `characters` (of each class, those that look
    alike together), `face_names`, `face_splits` and `packages` (name, version, integrity).
    """
    header = read_packed(GLYPHS_FILE.read_bytes(), MAGIC, KIND).header
    return {key: value for key, value in header.items() if key != "blocks"}


def content_sha256(glyphs: GlyphSet) -> str:
    """Hash of the decoded arrays and names."""
    digest = hashlib.sha256()
    digest.update(json.dumps([glyphs.class_names, glyphs.face_names, glyphs.face_splits]).encode())
    for array in (glyphs.labels, glyphs.faces, glyphs.images):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
