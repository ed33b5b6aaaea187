import math

import numpy as np
import pytest
from scipy import stats

from study.analysis.correlation import Correlation, across_trials, spearman, within_trials
from study.analysis.entities import TrialRecord
from study.analysis.evidence import NotEnough
from tests.study.analysis.made_up_trials import binomial_band, trial

CAUSE = "subspace/interference"
SIMULATIONS = 500


def pair(cause: float, effect: float, seed: int, split: str = "test") -> TrialRecord:
    """A trial whose interference is `cause` on the mean, but not at its end."""
    apart = 5.0 * (-1) ** seed
    rows = [{CAUSE: cause - apart}, {CAUSE: cause + apart, f"{split}/forgetting": effect}]
    return trial(rows, seed)


def of(found: Correlation | NotEnough) -> Correlation:
    assert isinstance(found, Correlation), found
    return found


def test_rho_is_that_of_scipy_with_ties() -> None:
    one, other = [1.0, 2.0, 2.0, 5.0, 4.0], [3.0, 1.0, 4.0, 4.0, 9.0]
    expected = stats.spearmanr(one, other)
    assert spearman(one, other) == pytest.approx(float(expected.statistic))
    assert math.isnan(spearman(one, [1.0] * 5))


def test_across_trials_uses_the_mean_cause_and_the_final_effect() -> None:
    values = [(0.1, 0.3), (0.2, 0.1), (0.3, 0.35), (0.4, 0.4), (0.5, 0.2), (0.6, 0.6), (0.7, 0.5)]
    values += [(0.8, 0.9), (0.9, 0.7)]
    trials = [pair(cause, effect, seed) for seed, (cause, effect) in enumerate(values)]
    found = of(across_trials(trials))
    expected = stats.spearmanr([one for one, _ in values], [other for _, other in values])
    assert (found.n, found.over) == (9, "trials")
    assert found.rho == pytest.approx(float(expected.statistic))
    assert found.p == pytest.approx(float(expected.pvalue))
    # Fisher's z with a variance of (1 + rho²/2) / (n − 3).
    half = 1.959964 * math.sqrt((1 + found.rho**2 / 2) / 6)
    ends = [math.tanh(math.atanh(found.rho) + one) for one in (-half, half)]
    assert [found.low, found.high] == pytest.approx(ends, rel=1e-6)
    assert found.enough_evidence
    assert of(across_trials([pair(c, e, 0, "val") for c, e in values], "val")) == found


@pytest.mark.parametrize("n", [8, 20])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_interval_over_trials_covers_the_truth(n: int, rho: float) -> None:
    random = np.random.default_rng(0)
    # Spearman's rho of two normal variables of this correlation.
    truth = 6 / math.pi * math.asin(rho / 2)
    covered = 0
    for _ in range(SIMULATIONS):
        one = random.normal(size=n)
        other = rho * one + math.sqrt(1 - rho * rho) * random.normal(size=n)
        trials = [pair(float(one[at]), float(other[at]), at) for at in range(n)]
        found = of(across_trials(trials))
        covered += found.low <= truth <= found.high
    # The interval is an approximation: a little more room than counting alone needs.
    least, most = binomial_band(0.95, SIMULATIONS)
    assert least - 0.01 <= covered / SIMULATIONS <= most, covered / SIMULATIONS


def test_ranks_that_agree_in_full_still_have_an_interval() -> None:
    found = of(across_trials([pair(0.1 * at, 0.01 * at, at) for at in range(8)]))
    assert found.rho == 1
    assert 0 < found.low < found.high <= 1


def learner(random: np.random.Generator, strength: float, tasks: int, seed: int) -> TrialRecord:
    """A trial whose accuracy on old tasks falls by `strength` times the interference, and noise."""
    rows: list[list[float]] = [[1.0]]
    metrics: list[dict[str, float]] = [{}]
    own = random.normal(0, 1)
    for _ in range(tasks):
        cause = float(random.normal(own, 1))
        loss = 0.01 * (strength * cause + float(random.normal()))
        metrics.append({CAUSE: cause})
        rows.append([*(old - loss for old in rows[-1]), 1.0])
    return trial(metrics, seed, rows=rows)


def test_within_trials_ranks_run_over_tasks() -> None:
    random = np.random.default_rng(0)
    found = of(within_trials([learner(random, 5.0, 20, seed) for seed in range(4)]))
    assert (found.n, found.over) == (4, "tasks within a trial")
    assert found.rho > 0.8
    assert found.enough_evidence
    assert of(within_trials([learner(random, -5.0, 20, at) for at in range(4)])).rho < -0.8


def test_the_interval_within_trials_covers_the_truth() -> None:
    """Trials differ in their level of interference, which must not look like a correlation."""
    random = np.random.default_rng(0)
    truths = [
        of(within_trials([learner(random, 1.0, 20, at) for at in range(400)])).rho for _ in range(2)
    ]
    covered = nothing = 0
    simulations = 250
    for _ in range(simulations):
        found = of(within_trials([learner(random, 1.0, 20, seed) for seed in range(3)]))
        covered += found.low <= sum(truths) / 2 <= found.high
        none = of(within_trials([learner(random, 0.0, 20, seed) for seed in range(3)]))
        nothing += none.enough_evidence
    least, most = binomial_band(0.95, simulations)
    assert least <= covered / simulations <= most, covered / simulations
    assert nothing / simulations <= binomial_band(0.05, simulations)[1]


def test_too_little_is_refused_with_the_reason() -> None:
    seven = [pair(0.1 * at, 0.1 * at, at) for at in range(7)]
    assert across_trials(seven) == NotEnough("7 trials with both, 8 needed")
    flat = [pair(0.1, 0.1 * at, at) for at in range(9)]
    assert across_trials(flat) == NotEnough("one of the two is the same in all trials")
    random = np.random.default_rng(0)
    short = [learner(random, 1.0, 4, seed) for seed in range(5)]
    assert within_trials(short) == NotEnough(
        "0 trials with 5 tasks that have both, 3 trials needed"
    )
