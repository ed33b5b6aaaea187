import math

import pytest
from scipy import stats

from study.evidence import intervals
from study.evidence.intervals import Interval, interval, welch


def test_the_interval_is_students() -> None:
    mean = interval([1.0, 2.0, 4.0])
    assert (mean.mean, mean.n) == (pytest.approx(7 / 3), 3)
    assert mean.std == pytest.approx(math.sqrt(7 / 3))
    # 4.302653 is the 97.5 % quantile of t with 2 degrees of freedom.
    assert mean.half == pytest.approx(4.302653 * mean.std / math.sqrt(3), rel=1e-6)
    assert (mean.low, mean.high) == (
        pytest.approx(mean.mean - mean.half),
        pytest.approx(mean.mean + mean.half),
    )


def test_one_value_has_no_interval_and_none_has_nothing() -> None:
    single, none = interval([0.5]), interval([])
    assert (single.mean, single.n, none.n) == (0.5, 1, 0)
    assert all(
        math.isnan(value) for value in (single.std, single.low, single.half, none.mean, none.high)
    )


def test_the_paired_p_is_that_of_scipy() -> None:
    first, second = [0.61, 0.58, 0.66, 0.60], [0.55, 0.57, 0.59, 0.58]
    differences = [ours - theirs for ours, theirs in zip(first, second, strict=True)]
    expected = stats.ttest_rel(first, second).pvalue
    assert intervals.paired(differences)[1] == pytest.approx(float(expected), rel=1e-9)
    assert math.isnan(intervals.paired([0.1])[1])


def test_rounding_is_no_difference_and_no_spread_is_no_evidence() -> None:
    # 0.1 + 0.2 − 0.3 and the like: no seed differs.
    same, p = intervals.paired([5.6e-17, -5.6e-17, 5.6e-17])
    assert same == Interval(0.0, 0.0, 0.0, 0.0, 3)
    assert p == 1.0
    (pair,) = intervals.compare({"all": {"a": {0: 0.30, 1: 0.4}, "b": {0: 0.1 + 0.2, 1: 0.4}}})
    assert pair.identical
    # A difference that no seed changes has no interval, however many digits its rounding spoils.
    levels = {"a": {0: 0.71, 1: 0.81, 2: 0.61}, "b": {0: 0.70, 1: 0.80, 2: 0.60}}
    for methods in (
        levels,
        {name: {0: finals[0], 1: finals[1]} for name, finals in levels.items()},
    ):
        (pair,) = intervals.compare({"all": methods})
        assert pair.difference.mean == pytest.approx(0.01)
        assert math.isnan(pair.difference.low) and math.isnan(pair.difference.high)
        assert not pair.identical
    # The scale counts: of bytes 1e-6 is rounding, of shares it is not.
    assert intervals.paired([1e-6, 1e-6, -1e-6], 1e9)[0].mean == 0.0
    assert intervals.paired([1e-6, 2e-6, 1e-6])[1] < 0.1


def test_holm_steps_down_in_the_order_given() -> None:
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    with_gap = intervals.holm([math.nan, 0.04])
    assert math.isnan(with_gap[0])
    assert with_gap[1] == pytest.approx(0.04)


def test_methods_are_compared_on_common_seeds_within_their_group_only() -> None:
    pairs = intervals.compare(
        {
            "10 tasks": {
                "a": {0: 0.6, 1: 0.7, 2: 0.8},
                "b": {1: 0.51, 2: 0.59, 3: 0.0},
                "c": {9: 0.5},
            },
            "50 tasks": {"a": {0: 0.1}},
        }
    )
    assert [(pair.first, pair.second, pair.seeds) for pair in pairs] == [
        ("a", "b", (1, 2)),
        ("a", "c", ()),
        ("b", "c", ()),
    ]
    assert pairs[0].difference.mean == pytest.approx(0.2)
    assert math.isnan(pairs[1].difference.mean)


def test_seeds_that_move_both_methods_do_not_blur_their_difference() -> None:
    seeds = {0: 0.0, 1: 0.2, 2: -0.2}
    methods = {
        "a": {seed: 0.5 + shift + 0.001 * seed for seed, shift in seeds.items()},
        "b": {seed: 0.45 + shift for seed, shift in seeds.items()},
    }
    (pair,) = intervals.compare({"all": methods})
    assert interval(list(methods["a"].values())).low < 0.45
    assert pair.difference.low > 0


def test_welch_is_that_of_scipy() -> None:
    first, second = [0.71, 0.79], [0.60, 0.65, 0.61]
    difference, p = welch(first, second)
    test = stats.ttest_ind(first, second, equal_var=False)
    ends = test.confidence_interval(0.95)
    assert p == pytest.approx(float(test.pvalue))
    assert (difference.low, difference.high) == pytest.approx((ends.low, ends.high))
    assert (difference.mean, difference.n) == (pytest.approx(0.13), 5)
    assert math.isnan(difference.std)


def test_welch_without_any_spread() -> None:
    difference, p = welch([0.7, 0.7], [0.6, 0.6, 0.6])
    assert difference.mean == pytest.approx(0.1)
    assert math.isnan(p) and math.isnan(difference.low) and math.isnan(difference.high)
    assert welch([0.6, 0.6], [0.6, 0.6])[1] == 1.0
    assert welch([0.3, 0.3], [0.1 + 0.2, 0.3])[1] == 1.0
    assert math.isnan(welch([0.5], [0.9, 0.8])[1])
