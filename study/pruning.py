"""Pruning by tasks seen: search trials of one cell, compared at the same number of tasks."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.planning import PlannedTrial
from study.sections import FORGETTING_CRITERION, Pruner
from study.spec import StudySpec

# Rungs are for search trials, which look at validation images.
SPLIT = "val/"
FORGETTING_WEIGHT = 1.0


def score(pruner: Pruner, sign: int, metric: str, metrics: Mapping[str, float]) -> float:
    """What rungs compare, from the metrics after some task; more is better.

    Args:
        pruner: the criterion, and its weight of forgetting.
        sign: 1 where more of the study's first objective is better, −1 where less is.
        metric: the name of that objective; read by the criterion "objective" only.
        metrics: what was measured, by full name ("val/accuracy"). Forgetting begins with the
            second task and counts as 0 before; NaN where another metric is missing.
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
    goes on, and nothing ends before the first rung.

    Args:
        pruner: rungs, reduction and criterion.
        tasks: number of tasks that a search sees; there is no rung at the last one.
        sign: 1 where more of the objective is better, −1 where less is.
        metric: name of the objective.
    """

    def __init__(self, pruner: Pruner, tasks: int, sign: int, metric: str) -> None:
        self._pruner = pruner
        self._sign = sign
        self._metric = metric
        self._rungs: dict[int, dict[str, float]] = {}
        rung = pruner.first_rung
        while pruner.kind == "asha" and rung < tasks:
            self._rungs[rung] = {}
            rung *= pruner.reduction

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


class CellScheduler(FIFOScheduler):
    """Runs trials in the order they were proposed and prunes search trials within each cell.

    A search trial ends at the last task that the protocol lets it see. `failed` is called with
    a trial that has failed before the searcher is told, who is not told of the error.
    """

    def __init__(
        self,
        spec: StudySpec,
        planned: Callable[[str], PlannedTrial],
        failed: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        super().__init__()
        self._spec = spec
        self._planned = planned
        self._failed = failed
        self._cells: dict[str, Rungs] = {}

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Hands on that a trial has failed."""
        self._failed(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP for a search trial that ends here, else CONTINUE.

        `result` holds the metrics under their own names. One with "failed" has none and is
        passed over.
        """
        planned = self._planned(trial.trial_id)
        ends = "failed" not in result and self.recall(planned, result["task"], result)
        return str(TrialScheduler.STOP if ends else TrialScheduler.CONTINUE)

    def recall(self, trial: PlannedTrial, task: int, metrics: Mapping[str, float]) -> bool:
        """Takes a result, of an earlier session too, in the order in which they came.

        Returns:
            Whether the trial ends there: a study may have been killed before it did.
        """
        if trial.role != "search":
            return False
        if trial.cell not in self._cells:
            self._cells[trial.cell] = Rungs(
                self._spec.pruner, trial.tasks, self._spec.sign, self._spec.metric
            )
        return self._cells[trial.cell].prunes(trial.id, task, metrics) or task >= trial.tasks
