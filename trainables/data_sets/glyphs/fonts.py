"""Font faces of `@fontsource` npm tarballs, and characters as they draw them; to build."""

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LICENCES = ("OFL-1.1", "Apache-2.0")
DRAWN_AT = 160  # pixels an em, before a glyph is cut out and made small
REGULAR, BOLD = 400, 700
LEAST_INK = 32  # of 255: what counts as drawn

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Face:
    """A weight of a font family: where it comes from and who may be thanked."""

    package: str
    version: str
    integrity: str
    family: str
    licence: str
    attribution: str
    weight: int
    tarball: Path

    @property
    def name(self) -> str:
        """Package and weight, as "alegreya-700"."""
        return f"{self.package}-{self.weight}"


def read_faces(folder: Path, packages: Mapping[str, tuple[str, str]]) -> list[Face]:
    """The faces of pinned packages, name → (version, integrity), sorted; italics are left out.

    Of each family the upright weight nearest to regular, and the one nearest to bold. The folder
    has the tarballs as `npm pack` names them. ValueError where one is missing or not the pinned
    one, or its licence is none of `LICENCES`.
    """
    faces = []
    paths = {
        package: folder / f"fontsource-{package}-{version}.tgz"
        for package, (version, _) in packages.items()
    }
    missing = sorted(path.name for path in paths.values() if not path.is_file())
    if missing:
        raise ValueError(
            f"{folder} must hold {len(paths)} tarballs, but {len(missing)} are missing, such as "
            f"{missing[0]}."
        )
    for package, (version, integrity) in sorted(packages.items()):
        path = paths[package]
        found = f"sha512-{base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()}"
        if found != integrity:
            raise ValueError(f"{path} must be {package}@{version} ({integrity}), but got {found}.")
        about = json.loads(_contents(path, ("metadata.json",))["package/metadata.json"])
        licence = about["license"]["type"]
        if licence not in LICENCES:
            raise ValueError(f"{path} must be under one of {LICENCES}, but got {licence!r}.")
        if "normal" not in about["styles"]:
            continue
        weights = {
            min(about["weights"], key=lambda weight: (abs(weight - wanted), weight))
            for wanted in (REGULAR, BOLD)
        }
        attribution = " ".join(about["license"]["attribution"].split())
        faces += [
            Face(package, version, integrity, about["family"], licence, attribution, weight, path)
            for weight in sorted(weights)
        ]
    return faces


def draw_all(face: Face, characters: Iterable[str], size: int, inside: int) -> dict[str, Image]:
    """The characters that a face has, as grey levels 0..15 (size, size), 15 the white ground.

    Each is cut out, scaled to `inside` pixels on its longer side and put in the middle.
    """
    from fontTools.ttLib import TTFont
    from PIL import ImageFont

    drawn: dict[str, Image] = {}
    ending = f"-{face.weight}-normal.woff2"
    contents = _contents(face.tarball, ("unicode.json", f"*{ending}"))
    ranges = json.loads(contents["package/unicode.json"])
    for subset, members in by_subset(ranges, characters).items():
        content = contents.get(f"package/files/{face.package}-{subset}{ending}")
        if content is None or not members:
            continue
        known = TTFont(io.BytesIO(content), lazy=True).getBestCmap() or {}
        font = ImageFont.truetype(
            io.BytesIO(content), DRAWN_AT, layout_engine=ImageFont.Layout.BASIC
        )
        for character in members:
            if ord(character) in known and character not in drawn:
                image = draw(font, character, size, inside)
                if image is not None:
                    drawn[character] = image
    return drawn


def draw(font: Any, character: str, size: int, inside: int) -> Image | None:
    """One character, or None where nothing is drawn."""
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    left, top, right, bottom = (int(edge) for edge in font.getbbox(character))
    if right <= left or bottom <= top or max(right - left, bottom - top) > 8 * DRAWN_AT:
        return None
    canvas = PillowImage.new("L", (right - left + 4, bottom - top + 4), 0)
    ImageDraw.Draw(canvas).text((2 - left, 2 - top), character, fill=255, font=font)
    ink = np.asarray(canvas)
    rows, columns = (np.flatnonzero((ink > LEAST_INK).any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    cut = canvas.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    scale = inside / max(cut.size)
    wide, high = (max(1, round(side * scale)) for side in cut.size)
    small = cut.resize((wide, high), PillowImage.Resampling.BOX)
    image = np.full((size, size), 255, np.uint8)
    y, x = (size - high) // 2, (size - wide) // 2
    image[y : y + high, x : x + wide] = 255 - np.asarray(small)
    levels: Image = ((image.astype(np.uint16) + 8) // 17).astype(np.uint8)
    return levels if (levels < levels.max()).any() else None


def by_subset(ranges: dict[str, str], characters: Iterable[str]) -> dict[str, list[str]]:
    """The files of a package that may have each character, by its published ranges.

    The last one first, as browsers take them: files may draw a character in other ways.
    """
    found: dict[str, list[str]] = {}
    wanted = list(characters)
    for subset, text in reversed(ranges.items()):
        spans = [part.strip()[2:].partition("-") for part in text.split(",")]
        bounds = [(int(low, 16), int(high or low, 16)) for low, _, high in spans]
        points = {point for low, high in bounds for point in range(low, high + 1)}
        found[subset.strip("[]")] = [character for character in wanted if ord(character) in points]
    return found


def _contents(tarball: Path, globs: tuple[str, ...]) -> dict[str, bytes]:
    """Files of a tarball by path, in one pass: going back would unpack it from its start again."""
    found = {}
    with tarfile.open(tarball, "r|gz") as archive:
        for member in archive:
            if any(fnmatch(member.name, f"package/{glob}") for glob in globs):
                file = archive.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    return found
