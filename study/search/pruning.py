"""Pruning by tasks seen: search trials of one cell, compared at the same number of tasks."""

import math
from collections.abc import Mapping

from study.planning.sections import FORGETTING_CRITERION, Pruner

# Rungs are for search trials, which look at validation images.
SPLIT = "val/"
FORGETTING_WEIGHT = 1.0


def score(pruner: Pruner, sign: int, metric: str, metrics: Mapping[str, float]) -> float:
    """What rungs compare, from the metrics after some task; more is better.

    `sign` is 1 where more of the study's first objective (`metric`) is better, −1 where less is.
    Forgetting begins with the second task and counts as 0 before; NaN where another is missing.
    """
    if pruner.criterion == "objective":
        return sign * metrics.get(metric, math.nan)
    if pruner.criterion != FORGETTING_CRITERION:
        return metrics.get(f"{SPLIT}{pruner.criterion}", math.nan)
    weight = FORGETTING_WEIGHT if pruner.forgetting_weight is None else pruner.forgetting_weight
    forgotten = metrics.get(f"{SPLIT}forgetting", 0.0)
    return metrics.get(f"{SPLIT}accuracy", math.nan) - weight * forgotten


class Rungs:
    """Asynchronous successive halving (ASHA) in one cell; nothing here knows of Ray.

    At each rung a trial goes on if it is among the best 1/`reduction` of the trials that have
    come as far, itself included, judged by the pruner's criterion. The first at a rung always
    goes on, and nothing ends before the first rung. There is none after all `tasks` of a search;
    for `sign` and `metric` see `score`.
    """

    def __init__(self, pruner: Pruner, tasks: int, sign: int, metric: str) -> None:
        self._pruner = pruner
        self._sign = sign
        self._metric = metric
        self._rungs: dict[int, dict[str, float]] = {rung: {} for rung in pruner.rungs(tasks)}

    @property
    def tasks(self) -> tuple[int, ...]:
        """The numbers of tasks at which trials are compared."""
        return tuple(self._rungs)

    def prunes(self, trial: str, task: int, metrics: Mapping[str, float]) -> bool:
        """Notes a trial's metrics after `task` tasks; True if the trial ends here.

        A result that is reported again, after a restore, replaces the first.
        """
        if task not in self._rungs:
            return False
        rung = self._rungs[task]
        value = score(self._pruner, self._sign, self._metric, metrics)
        rung[trial] = -math.inf if math.isnan(value) else value
        keep = max(1, math.ceil(len(rung) / self._pruner.reduction))
        return rung[trial] < sorted(rung.values(), reverse=True)[keep - 1]
