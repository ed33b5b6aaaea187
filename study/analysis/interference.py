"""How interference with old tasks goes with forgetting: rank correlations with intervals.

Over trials, Spearman's rho has the interval of Bonett and Wright (Psychometrika 65, 2000): as
honest as a bootstrap of the trials where both were tried, without its draws. Over the tasks of one
trial points depend on each other, so each trial gives one rho, and the interval is Student's over
trials. Neither says that one causes the other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from scipy import stats

from study.evidence import LEAST_SEEDS, LEVEL, NotEnough, count, intervals
from study.ledger import TrialRecord

INTERFERENCE, EFFECT = "subspace/interference", "test/forgetting"
LEAST_TRIALS, LEAST_TASKS = 8, 5


@dataclass(frozen=True)
class Correlation:
    """Spearman's `rho` with its 95 % interval, from `n` trials.

    `over` says what the ranks run over: "trials" or "tasks within a trial".
    """

    rho: float
    low: float
    high: float
    n: int
    over: str


def across_trials(trials: Sequence[TrialRecord]) -> Correlation | NotEnough:
    """Of the mean interference over a trial's tasks with its forgetting at the end.

    `trials` are of one cell, so that they differ in seeds or searched settings alone.
    """
    pairs = _pairs(trials)
    if len(pairs) < LEAST_TRIALS:
        return NotEnough(f"{count(len(pairs), 'trial')} with both, {LEAST_TRIALS} needed")
    rho = _spearman(*zip(*pairs, strict=True))
    if math.isnan(rho):
        return NotEnough("one of the two is the same in all trials")
    return Correlation(rho, *_ends(rho, len(pairs)), len(pairs), "trials")


def within_trials(trials: Sequence[TrialRecord]) -> Correlation | NotEnough:
    """Of the interference of a task with the accuracy it cost the earlier ones, trial by trial.

    The cost is the mean over earlier tasks of their accuracy before the task less that after it.
    """
    rhos = []
    for trial in trials:
        losses, causes = _losses(trial), trial.series(INTERFERENCE)
        tasks = sorted(set(losses) & set(causes))
        if trial.status == "completed" and len(tasks) >= LEAST_TASKS:
            rho = _spearman([causes[task] for task in tasks], [losses[task] for task in tasks])
            rhos += [] if math.isnan(rho) else [rho]
    if len(rhos) < LEAST_SEEDS:
        return NotEnough(
            f"{count(len(rhos), 'trial')} with {LEAST_TASKS} tasks that have both, "
            f"{LEAST_SEEDS} trials needed"
        )
    mean, _ = intervals.paired(rhos)
    # In this order NaN stays NaN.
    low, high = max(mean.low, -1.0), min(mean.high, 1.0)
    return Correlation(mean.mean, low, high, mean.n, "tasks within a trial")


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rho; NaN where one side does not vary."""
    if min(len(set(first)), len(set(second))) < 2:
        return math.nan
    return float(stats.spearmanr(first, second).statistic)


def _ends(rho: float, n: int) -> tuple[float, float]:
    """Bonett and Wright's interval: Fisher's z with a variance of (1 + rho²/2) / (n − 3)."""
    if abs(rho) == 1:
        # The ranks agree in full: z is infinite, and the interval of the nearest rho stands in.
        rho = math.copysign(1 - 12 / (n * (n * n - 1)), rho)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def _losses(trial: TrialRecord) -> dict[int, float]:
    """By task from the second on, the mean accuracy that the earlier tasks lost in it."""
    means = {}
    for before, after in pairwise(trial.tasks):
        # Of trials that are not evaluated after every task some rows are empty.
        if after.task == before.task + 1 and before.accuracy_row and after.accuracy_row:
            rows = zip(before.accuracy_row, after.accuracy_row, strict=False)
            means[after.task] = math.fsum(old - new for old, new in rows) / len(before.accuracy_row)
    return {task: mean for task, mean in means.items() if math.isfinite(mean)}


@dataclass(frozen=True)
class Cloud:
    """Completed trials on the same `data`, by the label of their cell.

    A trial is a point: the mean interference over its tasks, and its forgetting at the end.
    """

    data: str
    cells: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]


def cloud(data: str, cells: Mapping[str, Sequence[TrialRecord]]) -> Cloud:
    """The trials of `cells` (by label) that have both; a cell without any is left out."""
    pairs = {label: tuple(_pairs(trials)) for label, trials in cells.items()}
    return Cloud(data, tuple((label, points) for label, points in pairs.items() if points))


def _pairs(trials: Sequence[TrialRecord]) -> list[tuple[float, float]]:
    """Mean interference over tasks and final forgetting of each completed trial that has both."""
    pairs = []
    for trial in trials:
        series, end = list(trial.series(INTERFERENCE).values()), trial.final(EFFECT)
        if trial.status == "completed" and series and end is not None:
            pairs.append((math.fsum(series) / len(series), end))
    return pairs
