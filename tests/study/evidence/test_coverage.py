"""What the paired comparison promises, counted over made-up studies."""

import numpy as np
import pytest

from study.evidence import intervals
from study.evidence.intervals import welch
from tests.study.report.made_up_trials import binomial_band

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

SIMULATIONS = 2000
METHODS = ("a", "b", "c", "d")


def studies(random: np.random.Generator, seeds: int, gains: tuple[float, ...]) -> np.ndarray:
    """Accuracies (methods, seeds): a seed moves all methods, and each has noise of its own."""
    shared = random.normal(0, 0.05, seeds)
    own = random.normal(0, 0.01, (len(gains), seeds))
    return np.array(gains)[:, None] + shared + own


def compared(values: np.ndarray) -> list[intervals.Comparison]:
    by_method = {
        name: dict(enumerate(row)) for name, row in zip(METHODS, values.tolist(), strict=False)
    }
    return intervals.compare({"all": by_method})


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_a_paired_difference_covers_the_truth(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    right = 0
    for _ in range(SIMULATIONS):
        (pair,) = compared(studies(random, seeds, (0.62, 0.6)))
        right += pair.difference.low <= 0.02 <= pair.difference.high
    least, most = binomial_band(0.95, SIMULATIONS)
    assert least <= right / SIMULATIONS <= most, right / SIMULATIONS


def test_the_interval_over_different_seeds_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    right = 0
    for _ in range(SIMULATIONS):
        first, second = random.normal(0.62, 0.01, 4), random.normal(0.6, 0.03, 3)
        difference, _ = welch(first.tolist(), second.tolist())
        right += difference.low <= 0.02 <= difference.high
    # Welch's is an approximation with so few values of unequal spread.
    assert 0.93 <= right / SIMULATIONS <= 0.975, right / SIMULATIONS
