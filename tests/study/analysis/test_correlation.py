import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from study.analysis.interference import Cloud, across_trials, cloud, within_trials
from study.evidence.intervals import NotEnough
from study.ledger.study_records import TrialRecord
from tests.study.report.made_up_trials import binomial_band, enough, trial

CAUSE = "subspace/interference"
SIMULATIONS = 500


def pair(cause: float, effect: float, seed: int) -> TrialRecord:
    """A trial whose interference is `cause` on the mean, but not at its end."""
    apart = 5.0 * (-1) ** seed
    rows = [{CAUSE: cause - apart}, {CAUSE: cause + apart, "test/forgetting": effect}]
    return trial(rows, seed)


def test_across_trials_uses_the_mean_cause_and_the_final_effect() -> None:
    values = [(0.1, 0.3), (0.2, 0.1), (0.3, 0.35), (0.4, 0.4), (0.5, 0.2), (0.6, 0.6), (0.7, 0.5)]
    values += [(0.8, 0.9), (0.9, 0.7)]
    trials = [pair(cause, effect, seed) for seed, (cause, effect) in enumerate(values)]
    result = enough(across_trials(trials))
    expected = stats.spearmanr([cause for cause, _ in values], [effect for _, effect in values])
    assert (result.n, result.over) == (9, "trials")
    assert result.rho == pytest.approx(float(expected.statistic))
    # Fisher's z with a variance of (1 + rho²/2) / (n − 3).
    half = 1.959964 * math.sqrt((1 + result.rho**2 / 2) / 6)
    ends = [math.tanh(math.atanh(result.rho) + side) for side in (-half, half)]
    assert [result.low, result.high] == pytest.approx(ends, rel=1e-6)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("n", [8, 20])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_interval_over_trials_covers_the_truth(n: int, rho: float) -> None:
    random = np.random.default_rng(0)
    # Spearman's rho of two normal variables of this correlation.
    truth = 6 / math.pi * math.asin(rho / 2)
    covered = 0
    for _ in range(SIMULATIONS):
        first = random.normal(size=n)
        second = rho * first + math.sqrt(1 - rho * rho) * random.normal(size=n)
        trials = [pair(float(first[at]), float(second[at]), at) for at in range(n)]
        result = enough(across_trials(trials))
        covered += result.low <= truth <= result.high
    # The interval is an approximation: a little more room than counting alone needs.
    least, most = binomial_band(0.95, SIMULATIONS)
    assert least - 0.01 <= covered / SIMULATIONS <= most, covered / SIMULATIONS


def test_ranks_that_agree_in_full_still_have_an_interval() -> None:
    result = enough(across_trials([pair(0.1 * at, 0.01 * at, at) for at in range(8)]))
    assert result.rho == 1
    assert 0 < result.low < result.high <= 1


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
    result = enough(within_trials([learner(random, 5.0, 20, seed) for seed in range(4)]))
    assert (result.n, result.over) == (4, "tasks within a trial")
    assert result.rho > 0.8 and result.low > 0
    assert enough(within_trials([learner(random, -5.0, 20, at) for at in range(4)])).rho < -0.8


@pytest.mark.slow
@pytest.mark.nightly
def test_the_interval_within_trials_covers_the_truth() -> None:
    """Trials differ in their level of interference, which must not look like a correlation."""
    random = np.random.default_rng(0)
    truths = [
        enough(within_trials([learner(random, 1.0, 20, at) for at in range(400)])).rho
        for _ in range(2)
    ]
    covered = nothing = 0
    simulations = 250
    for _ in range(simulations):
        result = enough(within_trials([learner(random, 1.0, 20, seed) for seed in range(3)]))
        covered += result.low <= sum(truths) / 2 <= result.high
        none = enough(within_trials([learner(random, 0.0, 20, seed) for seed in range(3)]))
        nothing += none.low > 0 or none.high < 0
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
    none = NotEnough("0 trials with 5 tasks that have both, 3 trials needed")
    assert within_trials(short) == none


def test_a_cloud_has_a_point_for_each_completed_trial_that_has_both() -> None:
    lost = replace(pair(9.0, 9.0, 2), status="failed")
    cells = {"a": [pair(0.5, 0.1, 0), pair(0.25, 0.2, 1), lost], "b": [trial([{CAUSE: 1.0}])]}
    assert cloud("icons", cells) == Cloud("icons", (("a", ((0.5, 0.1), (0.25, 0.2))),))
