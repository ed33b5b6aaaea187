import numpy as np
import pytest

from tests.trainables.data_sets.glyphs.made_up import drawing, faces_of
from trainables.data_sets.glyphs.alike import (
    FEWEST_COMMON,
    character_distances,
    face_distances,
    groups_of,
    pairs_below,
    stretched,
)


def test_distances_are_means_over_the_faces_that_two_share() -> None:
    generator = np.random.default_rng(0)
    faces = faces_of(FEWEST_COMMON + 2)
    drawn = {
        face: {c: generator.integers(0, 16, (8, 8)).astype(np.uint8) for c in "ABC"}
        for face in faces
    }
    del drawn[faces[0]]["B"]
    for face in faces[: len(faces) - FEWEST_COMMON + 1]:
        del drawn[face]["C"]
    distances = character_distances(drawn, "ABC")
    shared = [images for images in drawn.values() if "B" in images]
    expected = [np.abs(i["A"].astype(float) - i["B"]).mean() / 15 for i in shared]
    assert distances[0, 1] == distances[1, 0] == pytest.approx(np.mean(expected), abs=1e-12)
    assert distances[0, 0] == 0
    # Too few faces draw C.
    assert np.isinf(distances[:, 2]).all()
    assert np.array_equal(character_distances(drawn, "CBA"), distances[::-1, ::-1])


def test_faces_are_near_where_they_draw_all_characters_alike() -> None:
    characters = "ABCDEFGHIJKL"
    drawn = {
        "a-400": {c: drawing(c) for c in characters},
        "b-400": {c: drawing(c, "b", changed=20) for c in characters},
        "c-400": {c: drawing(c + "other") for c in characters},
        "d-400": {c: drawing(c) for c in characters[: FEWEST_COMMON - 1]},
    }
    distances = face_distances(drawn, list(drawn))
    assert distances[0, 1] == pytest.approx(20 / 1024)
    assert distances[0, 2] > 0.1
    assert np.isinf(distances[3]).all()
    assert pairs_below(distances, 0.03) == [(0, 1)]


def test_pairs_join_groups() -> None:
    assert groups_of("abcdef", [("c", "a"), ("d", "e"), ("e", "c")]) == [
        ["a", "c", "d", "e"],
        ["b"],
        ["f"],
    ]


def test_stretched_drawings_tell_nothing_of_width() -> None:
    whole = drawing("A")
    assert np.array_equal(stretched(whole), whole[4:-4, 4:-4])
    for wide, high in ((12, 24), (24, 18), (6, 6)):
        other = stretched(drawing("A", wide=wide, high=high))
        assert np.array_equal(other, stretched(whole))
    assert not np.array_equal(stretched(drawing("B")), stretched(whole))
