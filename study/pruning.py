"""Pruning by tasks seen: search trials of one cell, compared at the same number of tasks."""

import math
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.planning import PlannedTrial
from study.spec import Pruner, StudySpec


class Rungs:
    """Asynchronous successive halving (ASHA) in one cell; nothing here knows of Ray.

    At each rung a trial goes on if it is among the best 1/`reduction` of the trials that have
    come as far, itself included. The first at a rung always goes on.

    Args:
        pruner: rungs and reduction.
        tasks: number of tasks of the cell; there is no rung at the last one.
        sign: 1 where more is better, −1 where less is.
    """

    def __init__(self, pruner: Pruner, tasks: int, sign: int) -> None:
        self._reduction = pruner.reduction
        self._sign = sign
        self._rungs: dict[int, dict[str, float]] = {}
        rung = pruner.first_rung
        while pruner.kind == "asha" and rung < tasks:
            self._rungs[rung] = {}
            rung *= pruner.reduction

    @property
    def tasks(self) -> tuple[int, ...]:
        """The numbers of tasks at which trials are compared."""
        return tuple(self._rungs)

    def prunes(self, trial: str, task: int, value: float) -> bool:
        """Notes a trial's objective after `task` tasks; True if the trial ends here.

        A value that is reported again, after a restore, replaces the first.
        """
        if task not in self._rungs:
            return False
        rung = self._rungs[task]
        rung[trial] = -math.inf if math.isnan(value) else self._sign * value
        keep = max(1, math.ceil(len(rung) / self._reduction))
        return rung[trial] < sorted(rung.values(), reverse=True)[keep - 1]


class CellScheduler(FIFOScheduler):
    """Runs trials in the order they were proposed and prunes search trials within each cell."""

    def __init__(self, spec: StudySpec, planned: Callable[[str], PlannedTrial]) -> None:
        super().__init__()
        self._spec = spec
        self._planned = planned
        self._cells: dict[str, Rungs] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP for a search trial that its cell's rung does not keep, else CONTINUE."""
        planned = self._planned(trial.trial_id)
        value = result.get(self._spec.metric)
        if planned.role != "search" or value is None:
            return str(TrialScheduler.CONTINUE)
        rungs = self._cells.setdefault(
            planned.cell, Rungs(self._spec.pruner, planned.tasks, self._spec.sign)
        )
        ends = rungs.prunes(planned.id, result["task"], value)
        return str(TrialScheduler.STOP if ends else TrialScheduler.CONTINUE)
