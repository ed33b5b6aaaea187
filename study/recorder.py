"""Turns the events of Tune into records of the ledger."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from study.checkpoints import Checkpoints, delete
from study.ledger import Record
from study.planning import PlannedTrial
from study.storage import is_full
from study.trial_errors import error_of, has_died, in_one_line


class StoppedError(BaseException):
    """Leaves Tune's loop at once: it waits for trials, or goes on, after an Exception."""


class Recorder(tune.Callback):
    """Records tasks, checkpoints and ends of trials.

    Args:
        planned: the trial that Tune knows by an id.
        record: takes the records; what it raises leaves Tune's loop if it is no Exception.
        checkpoints: takes every checkpoint that is safe.
        seen: (trial, task) of earlier sessions, which are not recorded again.
        goes_on: whether a trial that failed, by Tune's id, is handed out again.
        restarts: how often a trial was handed out again.
        stopped: asked at every step; once it is true, the study is left.
        broken: called with the error of a trial that could not write; the study is left then.
    """

    def __init__(
        self,
        planned: Callable[[str], PlannedTrial],
        record: Callable[[Record], None],
        checkpoints: Checkpoints,
        seen: Collection[tuple[str, int]],
        goes_on: Callable[[str], bool],
        restarts: Callable[[str], int],
        stopped: Callable[[], bool],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._planned = planned
        self._record = record
        self._checkpoints = checkpoints
        self._seen = seen
        self._now_seen: set[tuple[str, int]] = set()
        self._goes_on = goes_on
        self._restarts = restarts
        self._stopped = stopped
        self._broken = broken

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as StudySearcher's

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ends the study where that was asked for."""
        if self._stopped():
            raise StoppedError

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Records what was measured after a task, once."""
        name = self._planned(trial.trial_id).id
        if "failed" in result:
            return
        key = (name, result["task"])
        if key in self._seen or key in self._now_seen:
            return
        self._now_seen.add(key)
        self._record(
            {
                "kind": "task",
                "trial": name,
                "task": result["task"],
                "metrics": dict(result["metrics"]),
                "accuracy_row": list(result["accuracy_row"]),
                "host": result.get("hostname"),
                "device": result.get("device"),
            }
        )

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: Checkpoint,
        **info: Any,
    ) -> None:
        """Takes a checkpoint that is in the study's folder; that of a failed task is none."""
        result = trial.last_result or {}
        folder = Path(checkpoint.path)
        if "failed" in result:
            delete(folder)
        else:
            self._checkpoints.safe(self._planned(trial.trial_id).id, result["task"], folder)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Records the end of a trial that saw all tasks, was pruned, or cannot go on."""
        result = trial.last_result or {}
        planned = self._planned(trial.trial_id)
        if "failed" in result:
            self._end(trial, "failed", result["failed"], result.get("reason", "error"))
        else:
            seen = result.get("task", 0)
            self._end(trial, "completed" if seen >= planned.tasks else "pruned", None, None)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Records the end of a trial that was restarted as often as it may be.

        One that could not write ends the study.
        """
        error = error_of(trial)
        if error is not None and is_full(error):
            self._broken(error)
        if self._goes_on(trial.trial_id):
            return
        reason = "died" if has_died(error) else "error"
        self._end(trial, "failed", in_one_line(error), reason)

    def _end(self, trial: Trial, status: str, error: str | None, reason: str | None) -> None:
        planned = self._planned(trial.trial_id)
        if error is not None:
            searched = ", ".join(f"{key}={value}" for key, value in planned.searched.items())
            known = (*self._seen, *self._now_seen)
            after = max((task for name, task in known if name == planned.id), default=0)
            at = f"in task {min(after + 1, planned.tasks)} of {planned.tasks}"
            error = f"{error} ({at}{', with ' if searched else ''}{searched})"
        restarts = self._restarts(trial.trial_id)
        self._record(end_record(planned, status, error, reason, restarts))
        if planned.role == "search":
            # Nothing continues it any more; what a confirmation learned is worth keeping.
            self._checkpoints.drop(planned.id)


def end_record(
    trial: PlannedTrial,
    status: str,
    error: str | None = None,
    reason: str | None = None,
    restarts: int = 0,
) -> Record:
    """The record of the end of a trial, for now or for good."""
    return {
        "kind": "end",
        "trial": trial.id,
        "status": status,
        "error": error,
        "reason": reason,
        "retries": restarts,
    }
