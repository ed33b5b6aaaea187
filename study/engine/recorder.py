"""Turns the events of Tune into records of the ledger."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import RayActorError
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from study.engine.checkpoints import Checkpoints, delete
from study.engine.node_check import NodeCheckError
from study.engine.searcher import StudySearcher
from study.ledger import Journal, is_full, records

LOST_NODE = "its node has died"


def error_of(trial: Trial) -> BaseException | None:
    """The last error of a trial; its traceback is in error.txt of Tune's folder."""
    if trial.pickled_error_file is None:
        return None
    error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return error


def in_one_line(error: BaseException | None) -> str:
    """What a person is told of an error."""
    if error is None:
        return "unknown: see ray.log"
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines() or [""]
    return _raised_in_setup(cause) or f"{type(cause).__name__}: {lines[0]}"


def has_died(error: BaseException | None) -> bool:
    """Whether a trial's process has ended without raising anything."""
    return isinstance(error, RayActorError) and _raised_in_setup(error) is None


def is_nodes(error: BaseException | None) -> bool:
    """Whether a node has failed, and not the trial on it.

    It was lost, which Ray says in words alone, or did not pass its check.
    """
    if not isinstance(error, RayActorError):
        return False
    raised, _, _ = (_raised_in_setup(error) or "").partition(":")
    unfit = raised == f"{NodeCheckError.__module__}.{NodeCheckError.__name__}"
    return error.preempted or LOST_NODE in str(error) or unfit


def _raised_in_setup(error: BaseException) -> str | None:
    """What a trial raised while it was set up: Ray puts its traceback into the error's text."""
    _, frame, rest = str(error).strip().rpartition('\n  File "')
    if not isinstance(error, RayActorError) or not frame:
        return None
    raised = [line for line in rest.splitlines()[1:] if line[:1].strip()]
    return raised[0] if raised else None


class StoppedError(BaseException):
    """Leaves Tune's loop at once: it waits for trials, or goes on, after an Exception."""


@dataclass(eq=False)
class Recorder(tune.Callback):
    """Records tasks, checkpoints and ends of trials.

    What the journal raises leaves Tune's loop if it is no Exception. Once `stopped` is true, the
    study is left; so it is by `broken`, which is called with the error of a trial that could not
    write.
    """

    searcher: StudySearcher
    journal: Journal
    checkpoints: Checkpoints
    stopped: Callable[[], bool]
    broken: Callable[[BaseException], None]

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as StudySearcher's

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ends the study where that was asked for."""
        if self.stopped():
            raise StoppedError

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Records what was measured after a task, once."""
        name = self.searcher.planned(trial.trial_id).id
        if "failed" in result or result["task"] in self.journal.history.trials[name].tasks:
            return
        self.journal.append(
            records.task(
                trial=name,
                task=result["task"],
                metrics=result["metrics"],
                accuracy_row=result["accuracy_row"],
                host=result.get("hostname"),
                device=result.get("device"),
            )
        )

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """Takes a checkpoint that is in the study's folder; that of a failed task is none."""
        result = trial.last_result or {}
        folder = Path(checkpoint.path)
        if "failed" in result:
            delete(folder)
        else:
            planned = self.searcher.planned(trial.trial_id)
            self.checkpoints.safe(planned.id, result["task"], folder)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Records the end of a trial that saw all tasks, was pruned, or cannot go on."""
        result = trial.last_result or {}
        if "failed" in result:
            self._end(trial, "failed", result["failed"], result.get("reason", "error"))
        else:
            planned = self.searcher.planned(trial.trial_id)
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
            self.broken(error)
        if self.searcher.goes_on(trial.trial_id):
            return
        reason = "died" if has_died(error) else "error"
        self._end(trial, "failed", in_one_line(error), reason)

    def _end(
        self, trial: Trial, status: records.Status, error: str | None, reason: str | None
    ) -> None:
        planned = self.searcher.planned(trial.trial_id)
        if error is not None:
            searched = ", ".join(f"{key}={value}" for key, value in planned.searched.items())
            after = self.journal.history.trials[planned.id].task
            at = f"in task {min(after + 1, planned.tasks)} of {planned.tasks}"
            error = f"{error} ({at}{', with ' if searched else ''}{searched})"
        restarts = self.searcher.restarts(trial.trial_id)
        self.journal.append(records.end(planned.id, status, error, reason, restarts))
        if planned.role == "search":
            # Nothing continues it any more; what a confirmation learned is worth keeping.
            self.checkpoints.drop(planned.id)
