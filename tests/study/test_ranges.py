from typing import Any

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from study import points, ranges
from tests.study.small_study import small_plan

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
    assert [ranges.holds(distribution, one) for one in inside] == [True] * len(inside)
    assert [ranges.holds(distribution, one) for one in outside] == [False] * len(outside)


def test_choices_must_be_different() -> None:
    with pytest.raises(ValueError, match="choices must be different, but 'sigma2' is there twice"):
        small_plan(
            grid={"method.name": ["inflora"], "data.tasks": [2]},
            search={"inflora": {"method.energy": {"choices": ["sigma2", "sigma4", "sigma2"]}}},
        )


GRID = {
    "steps": FloatDistribution(0.1, 0.5, step=0.2),
    "choice": CHOICES,
    "whole": IntDistribution(2, 16, log=True),
    "every": IntDistribution(2, 8, step=3),
}


def test_a_grid_has_every_value_as_a_person_would_write_it() -> None:
    assert [points.count(one) for one in GRID.values()] == [3, 4, 15, 3]
    assert points.count(FloatDistribution(0.0, 1.0)) is None
    found = [points.grid_point(GRID, at) for at in range(points.grid_size(GRID))]
    assert len({tuple(one.values()) for one in found}) == 3 * 4 * 15 * 3
    assert found[0] == {"steps": 0.1, "choice": "a", "whole": 2, "every": 2}
    assert found[1] == {"steps": 0.1, "choice": "a", "whole": 2, "every": 5}
    assert {one["steps"] for one in found} == {0.1, 0.3, 0.5}
    assert {type(one["whole"]) for one in found} == {int}
    assert all(ranges.holds(GRID[key], value) for one in found for key, value in one.items())


def test_a_sobol_sequence_fills_every_range() -> None:
    space = {
        **GRID,
        "log": FloatDistribution(1e-4, 1.0, log=True),
        "plain": FloatDistribution(-1.0, 3.0),
    }
    found = [points.sobol_point(space, 7, at) for at in range(64)]
    for key, distribution in space.items():
        values = [one[key] for one in found]
        assert all(ranges.holds(distribution, value) for value in values), key
        if (count := points.count(distribution)) is not None:
            assert len(set(values)) == count, key
    quarters = [sum(1 for one in found if low <= one["plain"] < low + 1) for low in (-1, 0, 1, 2)]
    assert quarters == [16, 16, 16, 16]
    decades = [sum(10**at <= one["log"] < 10 ** (at + 1) for one in found) for at in range(-4, 0)]
    assert decades == [16, 16, 16, 16]
    assert points.sobol_point(space, 8, 3) != found[3] == points.sobol_point(space, 7, 3)
