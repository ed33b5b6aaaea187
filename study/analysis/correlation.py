"""Whether interference with old tasks goes with forgetting: rank correlations with intervals.

Over trials, Spearman's rho has the interval of Bonett and Wright (Psychometrika 65, 2000): as
honest as a bootstrap of the trials where both were tried, without its draws. Over the tasks of one
trial points depend on each other, so each trial gives one rho, and the interval is Student's over
trials. Neither says that one causes the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from study.analysis import scaling
from study.analysis.entities import TrialRecord
from study.analysis.evidence import LEAST_SEEDS, NotEnough, count
from study.analysis.scaling import LEVEL

INTERFERENCE = "subspace/interference"
LEAST_TRIALS, LEAST_TASKS = 8, 5


@dataclass(frozen=True)
class Correlation:
    """Spearman's `rho` with its 95 % interval and two-sided p, from `n` trials.

    `over` says what the ranks run over: "trials" or "tasks within a trial".
    """

    rho: float
    low: float
    high: float
    n: int
    p: float
    over: str

    @property
    def enough_evidence(self) -> bool:
        """Whether there is a correlation: the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def across_trials(
    trials: Sequence[TrialRecord],
    split: str = "test",
    cause: str = INTERFERENCE,
    effect: str = "forgetting",
) -> Correlation | NotEnough:
    """Of the mean of `cause` over a trial's tasks with `split`/`effect` at its end.

    Args:
        trials: of one cell, so that they differ in seeds or searched settings alone.
        split: "test" for confirmations, "val" for search trials.
        cause: a metric of each task.
        effect: a metric of the last task.
    """
    pairs = []
    for one in trials:
        series, end = list(one.series(cause).values()), one.final(f"{split}/{effect}")
        if one.status == "completed" and series and end is not None:
            pairs.append((math.fsum(series) / len(series), end))
    if len(pairs) < LEAST_TRIALS:
        return NotEnough(f"{count(len(pairs), 'trial')} with both, {LEAST_TRIALS} needed")
    rho = spearman([one for one, _ in pairs], [other for _, other in pairs])
    if math.isnan(rho):
        return NotEnough("one of the two is the same in all trials")
    low, high = _ends(rho, len(pairs))
    return Correlation(rho, low, high, len(pairs), _p(rho, len(pairs)), "trials")


def within_trials(
    trials: Sequence[TrialRecord], cause: str = INTERFERENCE
) -> Correlation | NotEnough:
    """Of `cause` at a task with the accuracy that task cost the earlier ones, trial by trial.

    The cost is the mean over earlier tasks of their accuracy before the task less that after it.
    """
    found = []
    for one in trials:
        losses, causes = _losses(one), one.series(cause)
        tasks = sorted(set(losses) & set(causes))
        if one.status == "completed" and len(tasks) >= LEAST_TASKS:
            rho = spearman([causes[task] for task in tasks], [losses[task] for task in tasks])
            found += [] if math.isnan(rho) else [rho]
    if len(found) < LEAST_SEEDS:
        return NotEnough(
            f"{count(len(found), 'trial')} with {LEAST_TASKS} tasks that have both, "
            f"{LEAST_SEEDS} trials needed"
        )
    over, p = scaling.paired(found)
    # In this order NaN stays NaN.
    low, high = max(over.low, -1.0), min(over.high, 1.0)
    return Correlation(over.mean, low, high, over.n, p, "tasks within a trial")


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rho, with mean ranks for equal values; NaN where one side does not vary."""
    one, other = stats.rankdata(first), stats.rankdata(second)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(np.clip(np.corrcoef(one, other)[0, 1], -1.0, 1.0))


def _ends(rho: float, n: int) -> tuple[float, float]:
    """Bonett and Wright's interval: Fisher's z with a variance of (1 + rho²/2) / (n − 3)."""
    if abs(rho) == 1:
        # The ranks agree in full: z is infinite, and the interval of the nearest rho stands in.
        rho = math.copysign(1 - 12 / (n * (n * n - 1)), rho)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def _p(rho: float, n: int) -> float:
    """Two-sided p that there is none, by Student's t with n − 2 degrees of freedom."""
    if abs(rho) == 1:
        return 0.0
    t = abs(rho) * math.sqrt((n - 2) / (1 - rho**2))
    return 2 * float(stats.t.sf(t, n - 2))


def _losses(trial: TrialRecord) -> dict[int, float]:
    """By task from the second on, the mean accuracy that the earlier tasks lost in it."""
    found = {}
    for before, after in zip(trial.tasks, trial.tasks[1:], strict=False):
        if after.task == before.task + 1 and before.accuracy_row:
            lost = [
                old - new for old, new in zip(before.accuracy_row, after.accuracy_row, strict=False)
            ]
            mean = math.fsum(lost) / len(lost)
            if math.isfinite(mean):
                found[after.task] = mean
    return found
