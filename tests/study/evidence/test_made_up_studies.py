"""The bars of the procedure: error rates and coverage over 2,000 made-up studies a setting."""

import math

import pytest

from study.evidence.boundaries import Design
from tests.study.evidence.made_up_studies import simulate, spread

STUDIES = 2000
ROOM = 3 * math.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.nightly
@pytest.mark.parametrize("truth", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("errors", ["normal", "lognormal"])
@pytest.mark.parametrize("first", [8, 3])
@pytest.mark.parametrize("contrasts", [2, 6, 20])
def test_errors_stay_under_their_rate(
    contrasts: int, first: int, errors: str, truth: float
) -> None:
    design = Design(first, 8, contrasts)
    counts = simulate(design, truth, errors, STUDIES, spread(design, truth))
    wrong = counts.equal if truth else counts.sided
    assert wrong <= 0.05 + ROOM
    assert counts.covered >= 0.95 - ROOM


@pytest.mark.nightly
def test_the_interval_of_one_contrast_and_fixed_seeds_covers() -> None:
    counts = simulate(Design(8, 8), 0.0, "normal", STUDIES)
    assert counts.covered == pytest.approx(0.95, abs=0.015)
