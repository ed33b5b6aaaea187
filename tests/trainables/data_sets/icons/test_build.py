import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.data_sets.icons.build import MIN_FAMILIES, Drawing, select_classes
from trainables.data_sets.icons.source import group_synonyms, is_blank, read_tarball, to_levels


def drawing(name: str, family: int, bitmap: int) -> Drawing:
    small = np.full((32, 32), 15, np.uint8)
    small[0] = [int(bit) for bit in f"{bitmap:032b}"]
    return Drawing(name, f"family-{family:02d}", small, small.repeat(2, 0).repeat(2, 1))


def tarball(folder: Path, icons: dict[str, Any], aliases: dict[str, Any]) -> Path:
    def family(spdx: str) -> dict[str, Any]:
        return {"name": "Title", "author": {"name": "Author"}, "license": {"spdx": spdx}}

    content = {"icons": icons, "aliases": aliases, "width": 24, "height": 24}
    files = {
        "package.json": {"version": "1.2.3"},
        "collections.json": {"free": family("MIT"), "copyleft": family("GPL-3.0")},
        "json/free.json": content,
        "json/copyleft.json": content,
    }
    path = folder / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, value in files.items():
            text = json.dumps(value).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return path


def test_only_allowed_licences_and_plain_still_drawings_are_read(tmp_path: Path) -> None:
    icons = {
        "home": {"body": "<path/>"},
        "old": {"body": "<path/>", "hidden": True},
        "moving": {"body": "<path><animate/></path>"},
    }
    aliases = {
        "house": {"parent": "home"},
        "hut": {"parent": "house"},
        "mirrored": {"parent": "home", "hFlip": True},
        "gone": {"parent": "nothing"},
    }
    package = read_tarball(tarball(tmp_path, icons, aliases))
    assert package.version == "1.2.3"
    assert [family.prefix for family in package.families] == ["free"]
    drawings = package.families[0].drawings
    assert list(drawings) == ["home", "house", "hut"]
    assert drawings["hut"] == drawings["home"]
    assert 'viewBox="0 0 24 24"' in drawings["home"]


def test_a_missing_tarball_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be an existing file"):
        read_tarball(tmp_path / "absent.tgz")


def test_levels_round_to_the_nearest_and_blank_images_have_no_ink_or_no_paper() -> None:
    grey = np.array([[0, 8, 9, 25, 26, 255]], np.uint8)
    assert to_levels(grey).tolist() == [[0, 0, 1, 1, 2, 15]]
    image = np.full((32, 32), 15, np.uint8)
    assert is_blank(image)
    image[:4, :4] = 0
    assert not is_blank(image)
    assert is_blank(np.zeros((32, 32), np.uint8))


def test_names_of_one_bitmap_are_synonyms_named_after_the_commoner() -> None:
    drawings = [("house", "a", (b"1",)), ("home", "a", (b"1",)), ("home", "b", (b"2",))]
    assert group_synonyms([*drawings, ("star", "a", (b"3",))]) == [("home", "house"), ("star",)]


def test_a_slip_of_one_family_does_not_merge_names() -> None:
    drawings = [("file", "0", (b"same",)), ("folder", "0", (b"same",))]
    for name in ("file", "folder"):
        drawings += [(name, family, (f"{name}{family}".encode(),)) for family in "123456"]
    assert group_synonyms(drawings) == [("file",), ("folder",)]


def test_a_third_name_does_not_chain_names_that_families_tell_apart() -> None:
    drawings = [
        *[("close", str(f), (b"close%d" % f,)) for f in range(6)],
        *[("minus", str(f), (b"minus%d" % f,)) for f in range(6)],
        ("remove", "0", (b"minus0",)),
        ("remove", "1", (b"close1",)),
    ]
    groups = group_synonyms(drawings)
    assert sum("remove" in group for group in groups) == 1
    assert not any({"close", "minus"} <= set(group) for group in groups)


def test_classes_hold_one_unambiguous_drawing_per_family() -> None:
    home = [drawing("home", family, 100 + family) for family in range(MIN_FAMILIES)]
    star = [drawing("star", family, 300 + family) for family in range(MIN_FAMILIES + 1)]
    repeated = drawing("home", MIN_FAMILIES, 100)  # the bitmap of family 0
    slip = drawing("star", 3, 105)  # the bitmap that family 5 has for home
    rare = [drawing("moon", family, 500 + family) for family in range(MIN_FAMILIES - 1)]
    stars = [d for d in star if d.family != slip.family]
    classes = select_classes([*home, *stars, slip, *rare])
    assert [names for names, _ in classes] == [("star",)]
    assert [d.family for d in classes[0][1]] == [d.family for d in stars]

    more = [drawing("home", family, 100 + family) for family in range(40, 43)]
    classes = select_classes([*home, repeated, *more, *stars, slip, *rare])
    assert [names for names, _ in classes] == [("home",), ("star",)]
    families = [d.family for d in classes[0][1]]
    assert len(set(families)) == len(families)
    assert not {"family-05", repeated.family} & set(families)
