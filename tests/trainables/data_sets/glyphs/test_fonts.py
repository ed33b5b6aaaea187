import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ImageFont

from trainables.data_sets.glyphs.build import read_packages
from trainables.data_sets.glyphs.fonts import by_subset, draw, read_faces

Packages = dict[str, tuple[str, str]]


def pack(folder: Path, package: str, **changes: Any) -> tuple[str, str]:
    """Writes a tarball as npm does; its version and integrity."""
    about = {
        "family": package.title(),
        "styles": ["italic", "normal"],
        "weights": [100, 300, 500, 900],
        "license": {"type": "OFL-1.1", "attribution": "Copyright\n  somebody"},
    } | changes
    text = json.dumps(about).encode()
    path = folder / f"fontsource-{package}-1.2.3.tgz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("package/metadata.json")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return (
        "1.2.3",
        f"sha512-{base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()}",
    )


def test_of_a_family_two_upright_weights_are_read(tmp_path: Path) -> None:
    packages = {
        "beta": pack(tmp_path, "beta"),
        "alpha": pack(tmp_path, "alpha", weights=[400]),
        "slanted": pack(tmp_path, "slanted", styles=["italic"]),
    }
    faces = read_faces(tmp_path, packages)
    assert [face.name for face in faces] == ["alpha-400", "beta-300", "beta-500"]
    assert (faces[0].family, faces[0].version) == ("Alpha", "1.2.3")
    assert (faces[0].licence, faces[0].attribution) == ("OFL-1.1", "Copyright somebody")


def test_tarballs_that_are_missing_or_others_are_refused(tmp_path: Path) -> None:
    packages = {name: pack(tmp_path, name) for name in ("alpha", "beta", "gamma")}
    for name in ("beta", "gamma"):
        (tmp_path / f"fontsource-{name}-1.2.3.tgz").rename(tmp_path / f"{name}.tgz")
    message = "must hold 3 tarballs, but 2 are missing, such as fontsource-beta-1.2.3.tgz"
    with pytest.raises(ValueError, match=message):
        read_faces(tmp_path, packages)
    pack(tmp_path, "alpha", family="Other")
    message = r"fontsource-alpha-1.2.3.tgz must be alpha@1.2.3 \(sha512-.*\), but got sha512-"
    with pytest.raises(ValueError, match=message):
        read_faces(tmp_path, {"alpha": packages["alpha"]})


def test_other_licences_are_refused(tmp_path: Path) -> None:
    changes = {"license": {"type": "CC-BY-SA-4.0", "attribution": ""}}
    packages = {"alpha": pack(tmp_path, "alpha", **changes)}
    with pytest.raises(
        ValueError, match=r"must be under one of \('OFL-1.1', 'Apache-2.0'\), but g"
    ):
        read_faces(tmp_path, packages)


def test_pins_are_read(tmp_path: Path) -> None:
    path = tmp_path / "packages.txt"
    path.write_text(
        "@fontsource/abel@5.2.8 sha512-abc==\n@fontsource/noto-sans-jp@5.3.0 sha512-d\n"
    )
    assert read_packages(path) == {
        "abel": ("5.2.8", "sha512-abc=="),
        "noto-sans-jp": ("5.3.0", "sha512-d"),
    }


def test_the_last_file_of_a_character_is_tried_first() -> None:
    ranges = {"[1]": "U+42, U+100-1ff", "latin": "U+41-5A"}
    assert list(by_subset(ranges, "ZBA").items()) == [("latin", ["Z", "B", "A"]), ("1", ["B"])]


def test_a_glyph_fills_its_square_dark_on_white() -> None:
    font = ImageFont.load_default(100)
    for character in "Wli@":
        levels = draw(font, character, 32, 24)
        assert levels is not None
        assert (levels.shape, levels.dtype, int(levels.max())) == ((32, 32), np.uint8, 15)
        edges = [np.flatnonzero((levels < 15).any(axis)) for axis in (0, 1)]
        spans = [(int(places[0]), int(places[-1]) + 1) for places in edges]
        assert max(stop - start for start, stop in spans) == 24
        assert all(abs(start - (32 - stop)) <= 1 for start, stop in spans)
        assert levels.min() < 5
    assert draw(font, " ", 32, 24) is None
