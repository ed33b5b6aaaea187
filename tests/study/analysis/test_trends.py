import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from study.analysis import trend_models
from study.analysis.trends import fit_trend
from study.evidence.intervals import NotEnough
from tests.study.report.made_up_trials import binomial_band, enough

Array = NDArray[np.float64]
COUNTS = (5.0, 10.0, 20.0, 50.0)
TRUTHS: dict[str, tuple[Callable[[Array], Array], dict[str, float]]] = {
    "constant": (lambda x: 0.5 + 0 * x, {"a": 0.5}),
    "linear": (lambda x: 0.8 - 0.005 * x, {"a": 0.8, "b": -0.005}),
    "logarithmic": (lambda x: 0.8 - 0.1 * np.log(x), {"a": 0.8, "b": -0.1}),
    "power law": (lambda x: 0.8 * (x / 5) ** -0.3, {"a": 0.8, "b": -0.3}),
    "exponential decay": (
        lambda x: 0.4 + 0.4 * np.exp(-(x - 5) / 10),
        {"a": 0.4, "b": 0.4, "tau": 10.0},
    ),
}
SIMULATIONS = 300


def curves(values: Array, x: tuple[float, ...] = COUNTS) -> dict[int, dict[float, float]]:
    return {seed: dict(zip(x, row, strict=True)) for seed, row in enumerate(values.tolist())}


def noisy(
    random: np.random.Generator, truth: Array, seeds: int, ar: float = 0.0, noise: float = 0.01
) -> Array:
    """Seeds that lie above or below as a whole; noise that a point shares with the one before."""
    own = random.normal(0, noise, (seeds, len(truth)))
    for at in range(1, len(truth)):
        own[:, at] = ar * own[:, at - 1] + math.sqrt(1 - ar * ar) * own[:, at]
    return truth + own + random.normal(0, noise, (seeds, 1))


@pytest.mark.parametrize("name", TRUTHS)
def test_each_model_is_found_again_with_its_parameters(name: str) -> None:
    truth, parameters = TRUTHS[name]
    x = np.array((*COUNTS, 100.0, 200.0))
    shifts = np.array([[0.0], [1e-6], [-1e-6]]) * np.cos(x)
    trend = enough(fit_trend(curves(truth(x) + shifts, tuple(x.tolist()))))
    assert trend.model == name
    assert {own.name: own.value for own in trend.parameters} == pytest.approx(parameters, rel=1e-3)
    assert all(own.low <= own.value <= own.high for own in trend.parameters)


@pytest.mark.parametrize("model", trend_models.MODELS, ids=lambda model: model.name)
def test_slopes_are_the_derivatives_of_the_curve(model: trend_models.TrendModel) -> None:
    x = np.array(COUNTS)
    fit = trend_models.fit(model, x, np.array([0.8, 0.7, 0.62, 0.6]))
    for at, parameter in enumerate(fit.parameters):
        step = 1e-6 * max(1.0, abs(parameter))
        moved = fit.parameters.copy()
        moved[at] += step
        shape = moved[-1] if model.shape else 0.0
        weights = moved[:-1] if model.shape else moved
        near = trend_models.Fit(model, fit.origin, float(shape), weights, inside=True)
        expected = (near.values(x) - fit.values(x)) / step
        assert fit.slopes(x)[:, at] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_and_bands_cover_what_the_data_were_made_from(name: str, seeds: int) -> None:
    truth, parameters = TRUTHS[name]
    random = np.random.default_rng(0)
    x, later = np.array(COUNTS), 100.0
    right = np.zeros(len(parameters))
    inside = trials = beyond = chosen = 0
    for _ in range(SIMULATIONS):
        values = noisy(random, truth(x), seeds)
        trend = enough(fit_trend(curves(values), at=[later]))
        at = {own.x: own for own in trend.predictions}
        inside += at[20].low <= truth(x)[2] <= at[20].high
        further = float(noisy(random, truth(x), 1)[0, 2])
        trials += at[20].trial_low <= further <= at[20].trial_high
        beyond += at[later].low <= truth(np.array([later]))[0] <= at[later].high
        if trend.model == name:
            chosen += 1
            right += [own.low <= parameters[own.name] <= own.high for own in trend.parameters]
    assert chosen >= 0.8 * SIMULATIONS
    least, most = binomial_band(0.95, chosen)
    assert all(least <= share <= most for share in right / chosen), right / chosen
    # Bands cover every plausible model, and a further trial has the noise of a point on top of
    # an interval with few degrees of freedom: both may be too wide, the choice a little narrow.
    assert 0.91 <= inside / SIMULATIONS <= 0.99, inside / SIMULATIONS
    assert trials / SIMULATIONS >= 0.93, trials / SIMULATIONS
    # Twice as far as the data reach.
    assert beyond / SIMULATIONS >= 0.88, beyond / SIMULATIONS


@pytest.mark.slow
@pytest.mark.nightly
def test_points_of_one_curve_that_depend_on_each_other_do_not_narrow_its_band() -> None:
    random = np.random.default_rng(1)
    x = tuple(float(task) for task in range(1, 21))
    truth = 0.8 - 0.1 * np.log(np.array(x))
    first = last = 0
    for _ in range(SIMULATIONS):
        trend = enough(fit_trend(curves(noisy(random, truth, 3, ar=0.9), x)))
        first += trend.predictions[0].low <= truth[0] <= trend.predictions[0].high
        last += trend.predictions[-1].low <= truth[-1] <= trend.predictions[-1].high
    for count in (first, last):
        assert 0.91 <= count / SIMULATIONS <= 0.99, count / SIMULATIONS


def test_what_lies_beyond_the_data_is_marked_and_wider() -> None:
    random = np.random.default_rng(2)
    truth = TRUTHS["linear"][0](np.array(COUNTS))
    trend = enough(fit_trend(curves(noisy(random, truth, 3)), at=[2, 30, 100]))
    assert trend.data_range == (5, 50)
    assert [point.x for point in trend.predictions] == [2, 5, 10, 20, 30, 50, 100]
    assert [point.x for point in trend.predictions if point.extrapolated] == [2, 100]
    near, far = trend.predictions[-2], trend.predictions[-1]
    assert far.high - far.low > near.high - near.low


def test_bands_cover_the_models_that_the_data_do_not_tell_apart() -> None:
    """A curve that could as well be straight: what it does at 400 tasks is open."""
    random = np.random.default_rng(4)
    truth = 0.8 - 0.001 * np.array(COUNTS)
    trend = enough(fit_trend(curves(noisy(random, truth, 4)), at=[400]))
    plausible = [score.model for score in trend.scores if score.plausible]
    assert len(plausible) > 1
    far = trend.predictions[-1]
    assert min(truth[-1], 0.4) >= far.low and far.high - far.low > 0.1


def test_shares_stay_shares() -> None:
    random = np.random.default_rng(3)
    falling = 0.9 - 0.016 * np.array(COUNTS)
    trend = enough(fit_trend(curves(noisy(random, falling, 3, noise=0.001)), (0, 1), at=[90, 1]))
    assert trend.model == "linear"
    assert trend.predictions[-1].value == 0
    assert all(0 <= point.low <= point.high <= 1 for point in trend.predictions)
    assert all(0 <= point.trial_low <= point.trial_high <= 1 for point in trend.predictions)


def test_too_little_is_refused_with_the_reason() -> None:
    two = fit_trend({0: {5: 0.1, 10: 0.2, 20: 0.3}, 1: {5: 0.1, 10: 0.2, 20: 0.3}})
    assert two == NotEnough("2 seeds measured at all 3 points, and an interval needs 3")
    short = fit_trend({seed: {5: 0.1, 10: 0.2} for seed in range(3)})
    assert short == NotEnough("2 points, and a curve needs 3")
    assert isinstance(fit_trend({}), NotEnough)


def test_a_seed_without_all_points_is_left_out() -> None:
    full = curves(noisy(np.random.default_rng(0), TRUTHS["linear"][0](np.array(COUNTS)), 3))
    trend = enough(fit_trend({**full, 9: {5.0: 99.0}}))
    assert trend == fit_trend(full)
    assert trend.n == 3


def test_a_time_constant_that_the_data_cannot_show_has_no_interval() -> None:
    """All of the fall lies before the second point: any shorter time would do as well."""
    x = (5.0, 10.0, 20.0, 40.0, 80.0)
    noise = 1e-5 * np.random.default_rng(0).normal(size=(3, 5))
    values = np.array([0.9, 0.4, 0.4, 0.4, 0.4]) + noise
    trend = enough(fit_trend(curves(values, x)))
    assert trend.model == "exponential decay"
    assert all(math.isnan(own.low) and math.isnan(own.high) for own in trend.parameters)


def test_long_curves_are_validated_by_stretches() -> None:
    x = tuple(float(task) for task in range(1, 13))
    values = noisy(np.random.default_rng(0), np.zeros(12), 3)
    assert "5 stretches" in enough(fit_trend(curves(values, x))).validation
    assert "one point" in enough(fit_trend(curves(values[:, :9], x[:9]))).validation
