"""What Tune asks, with ids of its own: which trial is next, and which ends early."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.engine.checkpoints import Checkpoints
from study.ledger import Journal, records
from study.planning import PlannedTrial, StudySpec
from study.search import Rungs, Start, StudySearch

# The key of a trial's config that holds the folder of the checkpoint it goes on from.
RESUME_FROM = "resume_from"
# The key of a trial's config that lists the numbers of tasks after which it is evaluated.
EVALUATE_AFTER = "evaluate_after"
METRICS = "metrics/"


class StudySearcher(Searcher):
    """Gives Tune the trials of a study, and tells the study's search what became of them.

    A trial whose process dies or raises is handed out again by the search, from its newest
    checkpoint. Tune's own restarts would not do: where a process dies with two calls under way, it
    takes the second for a failure of the restart and gives the trial up.

    `gpus` is what a trial takes of a GPU.
    """

    def __init__(
        self, search: StudySearch, journal: Journal, checkpoints: Checkpoints, gpus: float
    ) -> None:
        super().__init__()
        self._search = search
        self._journal = journal
        self._checkpoints = checkpoints
        self._gpus = gpus
        self._planned: dict[str, PlannedTrial] = {}
        self._folders: dict[str, str] = {}
        self._of_node: set[str] = set()
        self._handed_back: set[str] = set()

    def planned(self, ray_id: str) -> PlannedTrial:
        """The trial that Tune knows as `ray_id`."""
        return self._planned[ray_id]

    def folder(self, ray_id: str) -> str:
        """The name of a folder for Tune's files of a trial that no other has."""
        return self._folders[ray_id]

    def goes_on(self, ray_id: str) -> bool:
        """Whether a trial that failed is handed out again."""
        return ray_id in self._handed_back

    def blame_node(self, ray_id: str) -> None:
        """Says that a failure which is told next was that of the trial's node."""
        self._of_node.add(ray_id)

    def restarts(self, ray_id: str) -> int:
        """How often a trial was handed out again, in this session."""
        return self._search.restarts(self._planned[ray_id])

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The flat params of the next trial; None while waiting; FINISHED when all are out.

        Those of a trial that goes on have `resume_from` as well, the folder of its checkpoint, and
        those of one that is not evaluated after every task `evaluate_after`.
        """
        start = self._search.next()
        if not isinstance(start, Start):
            # FINISHED is for good.
            return Searcher.FINISHED if start == "over" else None
        trial = start.trial
        self._planned[trial_id] = trial
        self._folders[trial_id] = f"{trial.id}-{start.times}" if start.times else trial.id
        params = dict(trial.params)
        evaluated = self._search.evaluated(trial)
        if evaluated is not None:
            params[EVALUATE_AFTER] = evaluated
        if not start.goes_on:
            return params
        folder, task, problem = self._checkpoints.start_of(trial.id)
        self._journal.append(records.continued(trial.id, task, problem, self._gpus))
        return {**params, **({} if folder is None else {RESUME_FROM: str(folder)})}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Hands on the metrics of a trial that goes on."""
        metrics = _metrics(result)
        if metrics:
            self._search.note(self._planned[trial_id], result["task"], metrics)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Hands on the end of a trial: all tasks seen, pruned, or failed."""
        trial, result = self._planned[trial_id], result or {}
        if error and self._search.fail(trial, trial_id in self._of_node):
            self._handed_back.add(trial_id)
            return
        failed = error or "failed" in result
        if not failed:
            self.on_trial_result(trial_id, result)
        self._search.end(trial, failed, result.get("reason"))

    def __getstate__(self) -> dict[str, Any]:
        # Tuner pickles whatever it is given, for a restore that the ledger serves better.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is what a study is restored from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is what a study is restored from."""


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in a result of Tune, by their own names; NaN where there is no number."""
    return {
        key.removeprefix(METRICS): math.nan if value is None else value
        for key, value in result.items()
        if key.startswith(METRICS)
    }


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
        ends = "failed" not in result and self.ends_at(planned, result["task"], result)
        return str(TrialScheduler.STOP if ends else TrialScheduler.CONTINUE)

    def ends_at(self, trial: PlannedTrial, task: int, metrics: Mapping[str, float]) -> bool:
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
