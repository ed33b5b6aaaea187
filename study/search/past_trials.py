"""PastTrials: the trials of a study's history as its plan has them now."""

import json
from collections.abc import Mapping
from typing import Any

from study.ledger import History, TrialHistory
from study.planning import Plan, PlannedTrial, Role


class PastTrials:
    """Which planned trial each trial of a history is; the plan must have every cell of it.

    The history is read whenever it is asked about.

    Raises:
        ValueError: if a trial of the history would be another one now.
    """

    def __init__(self, history: History, plan: Plan) -> None:
        self._history = history
        self._cells = {cell.id: cell for cell in plan.cells}
        self._planned = {name: self._as_planned(trial) for name, trial in history.trials.items()}

    def planned(self, trial: str) -> PlannedTrial:
        """The planned trial of this id, which must be in the history."""
        if trial not in self._planned:
            self._planned[trial] = self._as_planned(self._history.trials[trial])
        return self._planned[trial]

    @property
    def unfinished(self) -> list[PlannedTrial]:
        """Trials that have not ended, in the order they were launched."""
        trials = self._history.trials.values()
        return [self.planned(trial.trial) for trial in trials if not trial.ended]

    def _as_planned(self, trial: TrialHistory) -> PlannedTrial:
        if trial.cell not in self._cells:
            raise ValueError(
                f"trial {trial.trial} must be of a cell of {self._history.source}, but is of "
                f"{trial.cell!r}."
            )
        cell = self._cells[trial.cell]
        role: Role = "search" if trial.role == "search" else "confirm"
        try:
            planned = cell.trial(role, trial.searched, trial.seed)
        except ValueError as error:
            raise ValueError(
                f"trial {trial.trial} of cell {cell.id} is not valid any more: {error}"
            ) from error
        if planned.id != trial.trial:
            raise ValueError(
                f"trial {trial.trial} of cell {cell.id} would be another one now: "
                f"{_difference(trial.params, planned.params)}. Go on with the release of this "
                f"project that the study was begun with."
            )
        return planned


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first key of params that is not what it was."""
    plain = json.loads(json.dumps(now))
    for key in sorted({*before, *plain}):
        if before.get(key) != plain.get(key) or (key in before) != (key in plain):
            return f"{key} was {before.get(key)!r} and is {plain.get(key)!r}"
    return "it sees another number of tasks"
