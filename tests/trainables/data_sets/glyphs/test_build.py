from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data_sets.glyphs.made_up import Image, drawing, faces_of
from trainables.data_sets.glyphs import build
from trainables.data_sets.glyphs.build import (
    CAPITALS,
    HANDS,
    MOST_FACES,
    PATTERNED,
    SHARES,
    only_clear,
    select_classes,
    split_faces,
    tell_apart,
)
from trainables.data_sets.glyphs.characters import CANDIDATES
from trainables.data_sets.glyphs.fonts import Face

FACE = Face("", "1.0.0", "", "", "OFL-1.1", "", 400, Path())
HEBREW = CANDIDATES["hebrew"][:20]
FEW = faces_of(12)
MANY = faces_of(60)
# 40 faces to train on, 8 to validate on, 12 to test on.
SPLIT_OF = {face: (number >= 40) + (number >= 48) for number, face in enumerate(MANY)}


def as_drawn(**shapes: Image) -> dict[str, dict[str, Image]]:
    return {face: dict(shapes) for face in FEW}


def groups(**shapes: Image) -> set[str]:
    """What is told apart of these characters, homoglyphs together."""
    found = tell_apart(as_drawn(**shapes))
    return {"".join(group) for group in found if set(group) & set(shapes)}


def test_homoglyphs_of_scripts_are_one_class() -> None:
    near = drawing("A", "x", changed=10)  # 0.010
    assert groups(A=drawing("A"), Α=near, А=drawing("A", "y")) == {"AΑА"}
    assert groups(A=drawing("A"), B=near) == {"A"}  # of one script
    farther = drawing("A", "x", changed=40)  # 0.039
    assert groups(A=drawing("A"), Α=farther) == {"A"}
    assert groups(A=drawing("A"), Α=drawing("A", "x", changed=80)) == {"A", "Α"}
    # 0.010 from A, and 0.053 from a Greek letter that is 0.063 from A.
    other = drawing("A", "x", changed=64)
    assert groups(A=drawing("A"), Α=other, А=near) == {"A", "Α"}
    # Of three in a row the one that is left out joins nobody.
    assert groups(A=drawing("A"), B=near, Β=near) == {"AΒ"}


def test_small_letters_that_are_their_capitals_are_left_out() -> None:
    wide, tall = drawing("И"), drawing("И", wide=15)
    assert np.abs(wide.astype(int) - tall).mean() / 15 > 0.1
    assert groups(И=tall, и=wide) == {"И"}
    assert groups(И=tall, й=wide) == {"И", "й"}  # another letter
    assert groups(Б=drawing("Б"), б=drawing("б")) == {"Б", "б"}
    # The capital is 3 already.
    three = drawing("3", "x", changed=40)
    assert groups(**{"3": drawing("3"), "З": three, "з": drawing("3", wide=15)}) == {"3"}


def test_only_clear_drawings_stay() -> None:
    shapes = "ABDEFGHI"
    drawn = {
        face: {c: drawing(c, face) for c in shapes + shapes.lower() + HEBREW[:12]} for face in FEW
    }
    fine = dict(drawn)
    stripes = np.indices((32, 32)).sum(0) % 4 < 2
    drawn["hatched-400"] = {
        c: np.where(stripes, 15, levels).astype(np.uint8) for c, levels in drawn[FEW[0]].items()
    }
    drawn["sc-400"] = {c: drawing(c.upper(), "sc") for c in shapes + shapes.lower()}
    letters = {c: drawing(c, "cursive") for c in shapes + shapes.lower()}
    drawn["cursive-400"] = letters | {c: drawing("A", c) for c in HEBREW[:12]}
    clear, left_out = only_clear(drawn)
    assert left_out == {
        PATTERNED: {"hatched-400"},
        CAPITALS: {"sc-400"},
        HANDS: {"cursive-400 (hebrew)"},
    }
    assert clear == fine | {"cursive-400": letters}


def test_a_design_is_in_one_split_and_the_shares_are_those_wanted() -> None:
    faces, drawn = [], {}
    for number in range(40):
        package = f"family-{number:02d}"
        # The last five draw as the first five do.
        design = f"design-{number % 35:02d}"
        for weight in (400, 700):
            face = replace(FACE, package=package, weight=weight)
            faces.append(face)
            drawn[face.name] = {c: drawing(f"{design}{weight}{c}", package) for c in HEBREW}
    split_of = split_faces(faces, drawn)
    assert set(split_of) == set(drawn)
    families = {name: split_of[f"{name}-400"] for name in {face.package for face in faces}}
    assert all(split_of[f"{name}-700"] == split for name, split in families.items())
    for number in range(5):
        assert families[f"family-{number:02d}"] == families[f"family-{35 + number}"]
    counts = np.bincount(list(split_of.values()))
    assert np.abs(counts / counts.sum() - SHARES).max() <= 4 / 80


def many_drawn(character: str) -> dict[str, dict[str, Image]]:
    return {face: {character: drawing(character, face)} for face in MANY}


def test_a_class_has_enough_faces_in_every_split() -> None:
    drawn = many_drawn("A")
    ((found),) = select_classes(drawn, [("A",)], SPLIT_OF)
    assert (found.name, found.characters) == ("latin capital letter a", ("A",))
    assert {face: images["A"].tobytes() for face, images in drawn.items()} == {
        face: image.tobytes() for face, image in found.images.items()
    }
    for dropped in (MANY[:6], MANY[-3:], MANY[40:44]):  # 54 in all, 9 to test on, 4 to validate on
        few = {face: images for face, images in drawn.items() if face not in dropped}
        assert select_classes(few, [("A",)], SPLIT_OF) == []
    assert select_classes(drawn, [("B",)], SPLIT_OF) == []


def test_homoglyphs_are_drawn_once_by_a_face() -> None:
    drawn = many_drawn("A")
    drawn[MANY[0]]["Α"] = drawing("Α")
    drawn[MANY[1]] = {"Α": drawing("Α")}
    (found,) = select_classes(drawn, [("A", "Α")], SPLIT_OF)
    assert np.array_equal(found.images[MANY[0]], drawn[MANY[0]]["A"])
    assert np.array_equal(found.images[MANY[1]], drawing("Α"))


def test_no_bitmap_is_there_twice() -> None:
    drawn = many_drawn("A")
    for face in MANY:
        drawn[face]["B"] = drawing("B", face)
    drawn[MANY[7]]["A"] = drawn[MANY[2]]["A"]
    drawn[MANY[9]]["B"] = drawn[MANY[5]]["A"]
    first, second = select_classes(drawn, [("B",), ("A",)], SPLIT_OF)
    assert (first.characters, second.characters) == (("A",), ("B",))
    assert set(MANY) - set(first.images) == {MANY[7], MANY[5]}
    assert set(MANY) - set(second.images) == {MANY[9]}


def test_of_many_faces_those_of_other_families_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = faces_of(60, (400, 700))
    split_of = {face: SPLIT_OF[f"{face[:-4]}-400"] for face in faces}
    drawn = {face: {"A": drawing("A", face)} for face in faces}
    (found,) = select_classes(drawn, [("A",)], split_of)
    counts = np.bincount([split_of[face] for face in found.images])
    assert tuple(counts) == MOST_FACES
    packages = [face.rpartition("-")[0] for face in found.images]
    # There are 40 families to train on, and 42 faces are taken.
    assert len({name for name in packages if split_of[f"{name}-400"] == 0}) == 40
    monkeypatch.setattr(build, "MOST_FACES", (40, 8, 12))
    (found,) = select_classes(drawn, [("A",)], split_of)
    assert len({face.rpartition("-")[0] for face in found.images}) == len(found.images) == 60
