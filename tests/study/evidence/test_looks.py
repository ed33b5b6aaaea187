import math

import numpy as np
import pytest

from study.evidence import boundaries
from study.evidence.boundaries import Design, student
from study.evidence.looks import Look, further_seeds, judge, look

ONCE = Design(3, 3)
ORDER = (7, 5, 9)


def seen(differences: list[float]) -> Look:
    first = dict(zip(ORDER, (60 + value for value in differences), strict=False))
    return look("c", first, dict.fromkeys(first, 60.0), ONCE, 1.0, ORDER)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 3, "higher"),
        (0.1, 0.9, "higher"),
        (-0.9, -0.1, "lower"),
        (-0.9, 0.9, "equal"),
        (0.0, 0.9, "equal"),
        (-1.0, 0.5, "undecided"),
        (-0.5, 2, "undecided"),
    ],
)
def test_verdicts_exclude_each_other(low: float, high: float, verdict: str) -> None:
    assert judge(low, high, 1.0) == verdict


@pytest.mark.parametrize(
    ("differences", "verdict", "reason", "further"),
    [
        ([0.0, 0.0, 0.0], "identical", "", ()),
        ([0.0, 0.0], "identical", "", ()),
        ([2.0, 2.0], "undecided", "no_spread", (9,)),
        ([2.0, 2.0, 2.0], "undecided", "no_spread", ()),
        ([0.0], "undecided", "few_seeds", (5, 9)),
        ([], "undecided", "few_seeds", (7, 5, 9)),
        ([math.nan, 1.0], "undecided", "not_finite", ()),
        ([math.inf], "undecided", "not_finite", ()),
    ],
)
def test_nothing_is_no_verdict(
    differences: list[float], verdict: str, reason: str, further: tuple[int, ...]
) -> None:
    result = seen(differences)
    assert (result.verdict, result.reason, result.next_seeds) == (verdict, reason, further)
    assert not result.decided
    assert math.isnan(result.low)


def test_one_look_is_the_t_interval() -> None:
    result = seen([4.0, 5.0, 6.0])
    # 4.302653 is the 97.5 % quantile of t with 2 degrees of freedom.
    assert result.low == pytest.approx(5 - 4.302653 / math.sqrt(3), rel=1e-6)
    assert (result.verdict, result.by_less_than_margin) == ("higher", False)
    assert seen([0.5, 0.51, 0.52]).by_less_than_margin


def test_a_failed_seed_leaves_its_pair_out_and_is_not_run_again() -> None:
    first, second = {7: 62.0, 9: 63.0}, {7: 60.0, 5: 60.0, 9: 60.5}
    result = look("c", first, second, ONCE, 1.0, ORDER, tried=ORDER)
    assert (result.seeds, result.next_seeds) == ((7, 9), ())


@pytest.mark.slow
def test_what_is_not_inferior_asks_for_no_more_where_that_is_the_question() -> None:
    design, order = Design(3, 4), (1, 2, 3, 4)
    first, second = {1: 60.0, 2: 65.0, 3: 70.0}, {1: 60.0, 2: 60.0, 3: 60.0}
    margin = 14.0
    for asked, further in ((True, ()), (False, (4,))):
        result = look("c", first, second, design, margin, order, non_inferiority=asked)
        assert result.non_inferior
        assert result.verdict == "undecided"
        assert result.next_seeds == further


def test_only_cells_of_open_contrasts_get_seeds() -> None:
    looks = [seen([0.0, 0.0]), look("d", {7: 1.0}, {7: 2.0}, ONCE, 1.0, ORDER)]
    cells = further_seeds(looks, {"c": ("x", "y"), "d": ("y", "z")})
    assert cells == {"y": (5, 9), "z": (5, 9)}


@pytest.mark.parametrize("values", [(1, 3), (4, 3)])
def test_impossible_looks_are_refused(values: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="first <= at_most"):
        Design(*values)


@pytest.mark.slow
@pytest.mark.parametrize("contrasts", [1, 6])
def test_other_studies_cross_as_often_as_the_rate_says(contrasts: int) -> None:
    design, random, studies = Design(3, 8, contrasts), np.random.default_rng(1), 400_000
    limits = boundaries.boundaries(design)
    assert limits[0] == pytest.approx(student(design.spent(3), 3))
    values = random.standard_normal((studies, 8))
    crossed = np.zeros(studies, dtype=bool)
    for pairs, limit in zip(range(3, 9), limits, strict=True):
        part = values[:, :pairs]
        t = part.mean(axis=1) / part.std(axis=1, ddof=1) * math.sqrt(pairs)
        crossed |= np.abs(t) >= limit
    assert crossed.mean() == pytest.approx(design.alpha, abs=1e-3)
