import math

import numpy as np
import pytest
from scipy import stats

from study.evidence.boundaries import Design
from study.evidence.power import seeds_for, seeds_to_decide, smallest_difference


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_are_those_of_the_tables(effect: float, seeds: int) -> None:
    # G*Power 3.1, paired t-test, two-sided 5 %, power 80 %.
    assert seeds_for(effect, 1.0) == seeds


def test_the_smallest_difference_is_shown_in_four_of_five_studies() -> None:
    difference = smallest_difference(Design(5, 5), 2.0)
    values = np.random.default_rng(0).normal(difference, 2.0, (40_000, 5))
    shown = np.asarray(stats.ttest_1samp(values, 0, axis=1).pvalue) < 0.05
    assert float(np.mean(shown)) == pytest.approx(0.8, abs=0.01)


def test_more_contrasts_need_more() -> None:
    few, many = seeds_for(1.0, 1.0), seeds_for(1.0, 1.0, 20)
    assert few is not None
    assert many is not None
    assert few < many
    assert smallest_difference(Design(5, 5), 1.0) < smallest_difference(Design(5, 5, 20), 1.0)


def test_no_spread_and_too_much() -> None:
    assert (seeds_for(1.0, 0.0), smallest_difference(Design(5, 5), 0.0)) == (2, 0.0)
    assert seeds_for(1.0, 1000.0) is None
    with pytest.raises(ValueError, match="std must be"):
        seeds_for(1.0, math.nan)


@pytest.mark.parametrize("mean", [0.0, 0.3, 0.8, 2.0])
def test_seeds_to_decide_decide_in_four_of_five_studies(mean: float) -> None:
    pairs = seeds_to_decide(mean, 1.0, 1.0, contrasts=2)
    assert pairs is not None
    limit = Design(pairs, pairs, 2).critical(pairs)
    values = np.random.default_rng(0).normal(mean, 1.0, (20_000, pairs))
    half = limit * values.std(axis=1, ddof=1) / math.sqrt(pairs)
    low, high = values.mean(axis=1) - half, values.mean(axis=1) + half
    decided = (low > 0) | (high < 0) | ((low > -1) & (high < 1))
    # Pairs come in steps, and the other verdict only adds to the one that is counted on.
    assert 0.79 < float(np.mean(decided)) < 0.95


def test_seeds_to_decide_without_spread_and_with_too_much() -> None:
    assert seeds_to_decide(0.4, 0.0, 1.0) == 2
    assert seeds_to_decide(0.0, 1000.0, 1.0) is None
