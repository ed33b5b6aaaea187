"""Runs a plan with Ray Tune: one Tuner for the whole grid, every event a record."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import RayActorError
from ray.tune import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial

from study.ledger import Record
from study.planning import Plan, PlannedTrial
from study.pruning import CellScheduler
from study.ray_session import check_resources, ray_session, slots
from study.searcher import StudySearcher


def run_study(
    plan: Plan,
    output: Path,
    record: Callable[[Record], None],
    trainable: type[tune.Trainable],
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Runs every search and every confirmation of `plan`; Ray's files go to `output`/ray.

    Args:
        plan: what to run.
        output: the study's folder, on storage that all nodes share.
        record: takes each record in order: trial, task, end, winner, failed_cell.
        trainable: its config is the flat params; each step learns one task and returns task,
            metrics, accuracy_row, and the metrics at top level under their names.
        stopped: asked several times a second; once it is true, running trials are ended.

    Returns:
        True when the study ran to its end, False when it was stopped.

    Raises:
        MistakeError: if the cluster cannot run one trial.
        SystemExit: if the process was asked to end while Ray was starting.
    """
    output.mkdir(parents=True, exist_ok=True)
    resources = plan.spec.resources
    with ray_session(output / "ray.log"):
        check_resources(resources)
        count = functools.partial(_slots, plan)
        # Tune would start one trial after the other for a searcher it does not know.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(count())
        searcher = StudySearcher(plan, count, record)
        tuner = Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpu, "gpu": resources.gpu}),
            tune_config=TuneConfig(
                search_alg=searcher,
                scheduler=CellScheduler(plan.spec, searcher.planned),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: searcher.planned(trial.trial_id).id,
            ),
            run_config=RunConfig(
                name="trials",
                storage_path=str((output / "ray").resolve()),
                verbose=0,
                callbacks=[_Recorder(searcher.planned, record, stopped)],
                # num_to_keep would make Tune save its whole state after every task of any trial.
                checkpoint_config=CheckpointConfig(checkpoint_frequency=1),
                failure_config=FailureConfig(max_failures=1),
            ),
        )
        try:
            tuner.fit()
        except _Stopped:
            for trial in searcher.live:
                record(_end(trial, "interrupted", None))
            return False
    return True


class _Stopped(BaseException):
    """Leaves Tune's loop at once: an Exception would make it wait for steps that are under way."""


class _Recorder(tune.Callback):
    """Turns Tune's events into records."""

    def __init__(
        self,
        planned: Callable[[str], PlannedTrial],
        record: Callable[[Record], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._planned = planned
        self._record = record
        self._stopped = stopped
        self._checkpoints: dict[str, Checkpoint] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as StudySearcher's

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ends the study where that was asked for."""
        if self._stopped():
            raise _Stopped

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Records what was measured after a task."""
        self._record(
            {
                "kind": "task",
                "trial": self._planned(trial.trial_id).id,
                "task": result["task"],
                "metrics": dict(result["metrics"]),
                "accuracy_row": list(result["accuracy_row"]),
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
        """Keeps the newest checkpoint of a trial only."""
        old = self._checkpoints.get(trial.trial_id)
        self._checkpoints[trial.trial_id] = checkpoint
        if old is not None and old.path != checkpoint.path:
            _delete(old)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Records the end of a trial that saw all tasks or was pruned."""
        planned = self._planned(trial.trial_id)
        seen = (trial.last_result or {}).get("task", 0)
        status = "completed" if seen >= planned.tasks else "pruned"
        if planned.role == "search" and trial.trial_id in self._checkpoints:
            # Nothing continues it any more; what a confirmation learned is worth keeping.
            _delete(self._checkpoints.pop(trial.trial_id))
        self._record(_end(planned, status, None))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Records the end of a trial that failed, and why."""
        self._record(_end(self._planned(trial.trial_id), "failed", _reason(trial)))


def _delete(checkpoint: Checkpoint) -> None:
    checkpoint.filesystem.delete_dir(checkpoint.path)


def _end(trial: PlannedTrial, status: str, error: str | None) -> Record:
    return {"kind": "end", "trial": trial.id, "status": status, "error": error}


def _reason(trial: Trial) -> str:
    """The last error of a trial, in one line; the traceback is in error.txt of its folder."""
    if trial.pickled_error_file is None:
        return "unknown: see ray.log"
    error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    cause = getattr(error, "cause", None) or error
    text = str(cause).strip()
    _, frame, rest = text.rpartition('\n  File "')
    if isinstance(cause, RayActorError) and frame:
        # A trial that fails while it is set up: Ray puts the traceback into its own error's text.
        raised = [line for line in rest.splitlines()[1:] if line[:1].strip()]
        if raised:
            return raised[0]
    lines = text.splitlines() or [""]
    return f"{type(cause).__name__}: {lines[0]}"


def _slots(plan: Plan) -> int:
    limit = plan.spec.max_concurrent
    free = slots(plan.spec.resources)
    return free if limit is None else min(free, limit)
