import random

import pytest

from study.fronts import front


@pytest.mark.parametrize(
    ("points", "signs", "kept"),
    [
        ([], (1, -1), []),
        ([(0.5,), (0.7,), (0.7,), (0.1,)], (1,), [1]),
        ([(0.5,), (0.7,), (0.1,)], (-1,), [2]),
        ([(0.5, 1), (0.7, 3), (0.6, 3), (0.4, 2)], (1, -1), [1, 0]),
        ([(0.5, 1), (0.5, 1), (0.5, 2)], (1, -1), [0]),
        ([(1, 0, 0), (1, 0, 1), (1, 1, 0), (0, 1, 1)], (1, 1, 1), [2, 1, 3]),
    ],
)
def test_the_front(
    points: list[tuple[float, ...]], signs: tuple[int, ...], kept: list[int]
) -> None:
    assert front(points, signs) == kept


def test_it_is_what_comparing_all_pairs_gives() -> None:
    draw = random.Random(0)
    points = [tuple(draw.randrange(6) for _ in range(3)) for _ in range(60)]
    signs = (1, -1, 1)

    def better(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        gains = [s * (a - b) for s, a, b in zip(signs, one, other, strict=True)]
        return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)

    expected = {one for one in points if not any(better(other, one) for other in points)}
    found = [points[at] for at in front(points, signs)]
    assert len(found) == len(expected) and set(found) == expected
