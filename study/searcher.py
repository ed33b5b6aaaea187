"""Hands the trials of all cells to one Tuner: searches, then the confirmation of each winner."""

import math
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from study.ledger import Record
from study.planning import Plan, PlannedTrial
from study.sampling import CellSearch


class StudySearcher(Searcher):
    """Proposes the next trial of the whole study.

    Cells with most tasks go first, so that the tail is short; among those, search trials
    alternate between cells. A cell is confirmed as soon as its search is over.

    Args:
        plan: what to run.
        slots: how many trials may run at the same time; nothing is proposed beyond, so that
            every proposal knows all results there are.
        record: takes the records of launched trials, winners and cells without one.
    """

    def __init__(
        self, plan: Plan, slots: Callable[[], int], record: Callable[[Record], None]
    ) -> None:
        super().__init__()
        self._spec = plan.spec
        self._slots = slots
        self._record = record
        self._searches = {cell.id: CellSearch(cell, plan.spec) for cell in plan.cells}
        self._unsettled = list(self._searches)
        self._confirmations: list[PlannedTrial] = []
        self._planned: dict[str, PlannedTrial] = {}
        self._live: dict[str, dict[int, float]] = {}

    def planned(self, ray_id: str) -> PlannedTrial:
        """The trial that Tune knows as `ray_id`."""
        return self._planned[ray_id]

    @property
    def live(self) -> list[PlannedTrial]:
        """Trials that were handed out and have not ended."""
        return [self._planned[ray_id] for ray_id in self._live]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The flat params of the next trial; None while waiting; FINISHED when all are out."""
        self._settle()
        if len(self._live) >= self._slots():
            return None
        trial = self._next()
        if trial is None:
            waiting = self._unsettled or self._confirmations
            return None if waiting else Searcher.FINISHED
        self._planned[trial_id] = trial
        self._live[trial_id] = {}
        self._record(
            {
                "kind": "trial",
                "trial": trial.id,
                "cell": trial.cell,
                "role": trial.role,
                "params": dict(trial.params),
                "searched": dict(trial.searched),
                "seed": trial.seed,
            }
        )
        return dict(trial.params)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Notes the objective of a trial that goes on."""
        self._note(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Notes the end of a trial: all tasks seen, pruned, or failed."""
        if result:
            self._note(trial_id, result)
        curve = self._live.pop(trial_id)
        trial = self._planned[trial_id]
        if trial.role == "search":
            self._searches[trial.cell].tell(trial.id, curve, failed=error)

    def __getstate__(self) -> dict[str, Any]:
        # Tuner pickles whatever it is given, for a restore that the ledger serves better.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is what a study is restored from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is what a study is restored from."""

    def _note(self, trial_id: str, result: dict[str, Any]) -> None:
        if "task" in result:
            self._live[trial_id][result["task"]] = result.get(self._spec.metric, math.nan)

    def _next(self) -> PlannedTrial | None:
        if self._confirmations:
            return self._confirmations.pop(0)
        open_searches = [one for one in self._searches.values() if not one.exhausted]
        open_searches.sort(key=lambda one: (-one.cell.tasks, one.launched))
        for search in open_searches:
            trial = search.ask()
            if trial is not None:
                return trial
        # Asking may have shown that a space is used up.
        self._settle()
        return self._confirmations.pop(0) if self._confirmations else None

    def _settle(self) -> None:
        """Names the winner of every cell whose search is over and queues its confirmation."""
        for cell_id in list(self._unsettled):
            search = self._searches[cell_id]
            if not search.over:
                continue
            self._unsettled.remove(cell_id)
            winner = search.winner
            if winner is None:
                reason = f"none of {search.launched} search trials saw all tasks"
                if not search.launched:
                    reason = f"no setting that was proposed is valid: {search.refusal}"
                self._record({"kind": "failed_cell", "cell": cell_id, "error": reason})
                continue
            self._record(
                {
                    "kind": "winner",
                    "cell": cell_id,
                    "trial": winner.trial.id,
                    "searched": dict(winner.trial.searched),
                    "value": winner.value,
                    "objective": self._spec.metric,
                }
            )
            self._confirmations += [
                search.cell.trial("confirm", winner.trial.searched, seed)
                for seed in self._spec.seeds
            ]
            self._confirmations.sort(key=lambda one: -one.tasks)
