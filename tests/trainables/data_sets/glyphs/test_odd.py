import numpy as np

from tests.trainables.data_sets.glyphs.made_up import drawing, faces_of
from trainables.data_sets.glyphs.alike import Levels, stretched
from trainables.data_sets.glyphs.odd import (
    AMONG,
    FEWEST_OTHERS,
    faces_of_capitals,
    odd_faces,
    odd_scripts,
    patterned_faces,
    recognised,
)

LETTERS, SIGNS = "ABCDEFGHIJKL", "0123456789%&"
FACES = faces_of(FEWEST_OTHERS + 2)


def drawn_by(faces: list[str], characters: str = LETTERS) -> dict[str, dict[str, Levels]]:
    return {face: {c: drawing(c, face) for c in characters} for face in faces}


def test_faces_that_draw_something_else_are_found() -> None:
    drawn = drawn_by(FACES)
    assert odd_faces(drawn, 0.5) == set()
    assert all(all(known.values()) for known in recognised(drawn).values())
    turned = LETTERS[6:] + LETTERS[:6]
    drawn["symbols-400"] = {c: drawing(s, "s") for c, s in zip(LETTERS, turned, strict=True)}
    drawn["bars-400"] = {c: drawing("bar", c) for c in LETTERS}
    drawn["some-400"] = {c: drawing(c if c < "J" else c + "other") for c in LETTERS}
    drawn["few-400"] = {c: drawing(c) for c in LETTERS[:AMONG]}
    drawn["none-400"] = {}
    assert odd_faces(drawn, 0.5) == {"symbols-400", "bars-400", "few-400", "none-400"}
    assert odd_faces(drawn, 0.95) > odd_faces(drawn, 0.5)


def test_characters_of_few_faces_are_not_judged() -> None:
    drawn = drawn_by(FACES)
    for face in FACES[:FEWEST_OTHERS]:
        drawn[face]["M"] = drawing("M", face)
    drawn[FACES[0]]["A"] = drawing("nothing like it")
    known = recognised(drawn)
    assert set(known[FACES[0]]) == set(LETTERS)
    drawn[FACES[-1]]["M"] = drawing("M", "last")
    assert recognised(drawn)[FACES[0]]["M"]


def test_a_script_in_another_hand_is_found() -> None:
    drawn = drawn_by(FACES, LETTERS + SIGNS)
    hand = {c: drawing(LETTERS[n]) for n, c in enumerate(SIGNS)}
    drawn["cursive-400"] = {c: drawing(c) for c in LETTERS} | hand
    script_of = dict.fromkeys(LETTERS, "letters") | dict.fromkeys(SIGNS, "signs")
    assert odd_scripts(drawn, script_of, 0.5) == {("cursive-400", "signs")}
    assert odd_faces(drawn, 0.5) == set()


def test_patterns_are_found() -> None:
    drawn = drawn_by(FACES)
    stripes = np.indices((32, 32)).sum(0) % 4 < 2
    drawn["hatched-400"] = {
        c: np.where(stripes, 15, levels).astype(np.uint8) for c, levels in drawn[FACES[0]].items()
    }
    drawn["none-400"] = {}
    assert patterned_faces(drawn, 1.15) == {"hatched-400"}
    assert patterned_faces(drawn, 9.0) == set()


def test_capitals_for_small_letters_are_found() -> None:
    pairs = [(c, c.lower()) for c in LETTERS[:6]]
    drawn = drawn_by(FACES[:3], LETTERS[:6] + LETTERS[:6].lower())
    drawn["sc-400"] = {c: drawing(c.upper(), "sc", wide=24 if c.isupper() else 18)
                       for pair in pairs for c in pair}  # fmt: skip
    drawn["four-400"] = dict(list(drawn["sc-400"].items())[:8])
    assert not np.array_equal(stretched(drawn["sc-400"]["A"]), stretched(drawn["sc-400"]["a"]))
    assert faces_of_capitals(drawn, pairs, 0.16, fewest=6) == {"sc-400"}
    assert faces_of_capitals(drawn, pairs, 0.16, fewest=4) == {"sc-400", "four-400"}
