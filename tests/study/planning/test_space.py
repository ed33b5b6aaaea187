from typing import Any

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from study.planning import space as ranges
from study.search import points

CHOICES = CategoricalDistribution(("a", None, True, 2))


@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        (CHOICES, ["a", None, True, 2], ["b", 1, False, 2.0]),
        (IntDistribution(2, 8, step=3), [2, 5, 8], [3, 1, 11, 5.0, True, "5", None]),
        (IntDistribution(2, 9, log=True), [2, 3, 9], [1, 10, 2.5]),
        (FloatDistribution(0.5, 2.0), [0.5, 1, 2.0], [0.49, 2.01, float("nan"), True, "1"]),
        (FloatDistribution(0.1, 0.7, step=0.1), [0.1, 0.3, 0.1 + 2 * 0.1, 0.7], [0.15, 0.8]),
    ],
)
def test_what_a_distribution_holds(
    distribution: BaseDistribution, inside: list[Any], outside: list[Any]
) -> None:
    assert [ranges.holds(distribution, value) for value in inside] == [True] * len(inside)
    assert [ranges.holds(distribution, value) for value in outside] == [False] * len(outside)


GRID = {
    "steps": FloatDistribution(0.1, 0.5, step=0.2),
    "choice": CHOICES,
    "whole": IntDistribution(2, 16, log=True),
    "every": IntDistribution(2, 8, step=3),
}


def test_a_grid_has_every_value_as_a_person_would_write_it() -> None:
    assert [ranges.count(distribution) for distribution in GRID.values()] == [3, 4, 15, 3]
    assert ranges.count(FloatDistribution(0.0, 1.0)) is None
    grid = [points.grid_point(GRID, at) for at in range(ranges.grid_size(GRID))]
    assert len({tuple(point.values()) for point in grid}) == 3 * 4 * 15 * 3
    assert grid[0] == {"steps": 0.1, "choice": "a", "whole": 2, "every": 2}
    assert grid[1] == {"steps": 0.1, "choice": "a", "whole": 2, "every": 5}
    assert {point["steps"] for point in grid} == {0.1, 0.3, 0.5}
    assert {type(point["whole"]) for point in grid} == {int}
    assert all(ranges.holds(GRID[key], value) for point in grid for key, value in point.items())


def test_a_sobol_sequence_fills_every_range() -> None:
    space = {
        **GRID,
        "log": FloatDistribution(1e-4, 1.0, log=True),
        "plain": FloatDistribution(-1.0, 3.0),
    }
    sobol = [points.sobol_point(space, 7, at) for at in range(64)]
    for key, distribution in space.items():
        values = [point[key] for point in sobol]
        assert all(ranges.holds(distribution, value) for value in values), key
        if (count := ranges.count(distribution)) is not None:
            assert len(set(values)) == count, key
    quarters = [
        sum(1 for point in sobol if low <= point["plain"] < low + 1) for low in (-1, 0, 1, 2)
    ]
    assert quarters == [16, 16, 16, 16]
    decades = [
        sum(10**at <= point["log"] < 10 ** (at + 1) for point in sobol) for at in range(-4, 0)
    ]
    assert decades == [16, 16, 16, 16]
    assert points.sobol_point(space, 8, 3) != sobol[3] == points.sobol_point(space, 7, 3)
