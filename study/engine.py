"""Runs a plan with Ray Tune: one Tuner for the whole grid, every event a record."""

import contextlib
import functools
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

from study.checked_trainable import checked
from study.checkpoints import Checkpoints, session_folder
from study.device_share import gpu_share
from study.ledger import Record
from study.planning import Plan, PlannedTrial
from study.preflight import check_nodes
from study.pruning import CellScheduler
from study.ray_session import check_resources, ray_session, slots, wait_for_room
from study.recorder import Recorder, StoppedError, end_record
from study.restore import Past
from study.searcher import StudySearcher
from study.spending import Spending
from study.storage import StorageError, is_full, storage_error
from study.trial_errors import error_of, is_nodes

# What Tune can raise where its own files cannot be written.
OF_TUNE = (OSError, RuntimeError, tune.TuneError)


def run_study(
    plan: Plan,
    output: Path,
    record: Callable[[Record], None],
    trainable: type[tune.Trainable],
    stopped: Callable[[], bool] = lambda: False,
    past: Past | None = None,
) -> bool:
    """Runs every search and every confirmation of `plan`; Ray's files go to `output`/ray.

    The ledger alone is what a study is restored from: each session has a Tuner and a folder of
    its own, and `past` is what the sessions before have recorded.

    Args:
        plan: what to run.
        output: the study's folder, on storage that all nodes share.
        record: takes each record in order: trial, continued, task, checkpoint, end, winner, front,
            failed_cell.
        trainable: its config is the flat params, and `resume_from`, a checkpoint's folder, where
            a trial goes on; each step learns one task and returns task, metrics, accuracy_row,
            and the metrics at top level under their names. Where a trial cannot go on, it returns
            done, failed (why), reason and the last task instead.
        stopped: asked several times a second; once it is true, running trials are ended.
        past: the records of earlier sessions.

    Returns:
        True when the study ran to its end, False when it was stopped.

    Raises:
        MistakeError: if the cluster cannot run one trial, or a node of it is not ready.
        StorageError: if the study's folder takes nothing more; says what to do.
        SystemExit: if the process was asked to end while Ray was starting.
    """
    output.mkdir(parents=True, exist_ok=True)
    with ray_session(output / "ray.log") as on_cluster:
        if on_cluster:
            wait_for_room(plan.spec.resources.cpu, plan.spec.resources.gpu, stopped)
            trainable = checked(trainable, check_nodes(plan, output, stopped))
        gpu = gpu_share(plan)
        check_resources(plan.spec.resources.cpu, gpu)
        session = _Session(plan, output, record, gpu, past, on_cluster)
        return session.run(trainable, stopped)


class _Session:
    """One Tuner and what it works with."""

    def __init__(
        self,
        plan: Plan,
        output: Path,
        record: Callable[[Record], None],
        gpu: float,
        past: Past | None,
        on_cluster: bool,
    ) -> None:
        self._plan = plan
        self._output = output
        self._sink = record
        self._gpu = gpu
        self._on_cluster = on_cluster
        self._past = past or Past([], plan, output)
        self._spending = Spending(plan.spec.budget)
        for one in self._past.records:
            self._spending.take(one)
        self._problem: StorageError | None = None
        self._searcher: StudySearcher | None = None
        self._checkpoints = Checkpoints(output, self._record, self._past.checkpoints)

    def run(self, trainable: type[tune.Trainable], stopped: Callable[[], bool]) -> bool:
        """As `run_study`, in a Ray that is running."""
        complete = False
        try:
            self._checkpoints.sweep()
            scheduler = CellScheduler(self._plan.spec, self._planned, self._blame)
            self._end_what_had_ended(scheduler)
            count = functools.partial(_slots, self._plan, self._gpu, self._on_cluster)
            # Tune would start one trial after the other for a searcher it does not know.
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(count())
            spent = lambda cell: self._spending.reached(cell, time.time())  # noqa: E731
            self._searcher = StudySearcher(self._plan, count, self._record, self._past, spent)
            self._tuner(trainable, scheduler, stopped).fit()
            complete = True
        except StoppedError:
            self._interrupt()
        except OF_TUNE as error:
            if not is_full(error):
                raise
            self._problem = storage_error(self._output, error)
            self._interrupt()
        if not complete:
            # Processes of trials end with Tune's objects, which refer to each other in circles.
            gc.collect()
        if self._problem is not None:
            raise self._problem
        if complete:
            self._checkpoints.sweep()
        return complete

    def _blame(self, trial: tune.experiment.Trial) -> None:
        """Tells the searcher whose failure it is that it hears of next."""
        if self._searcher is not None and is_nodes(error_of(trial)):
            self._searcher.blame_node(trial.trial_id)

    def __getstate__(self) -> dict[str, object]:
        # Tuner pickles whatever it is given, for a restore that the ledger serves better.
        return {}

    def _tuner(
        self,
        trainable: type[tune.Trainable],
        scheduler: CellScheduler,
        stopped: Callable[[], bool],
    ) -> Tuner:
        spec, folder = self._plan.spec, session_folder(self._output, self._past.sessions)
        assert self._searcher is not None
        searcher = self._searcher
        recorder = Recorder(
            planned=searcher.planned,
            record=self._record,
            checkpoints=self._checkpoints,
            seen=self._past.seen,
            goes_on=searcher.goes_on,
            restarts=searcher.restarts,
            stopped=stopped,
            broken=self._broken,
        )
        return Tuner(
            tune.with_resources(trainable, {"cpu": spec.resources.cpu, "gpu": self._gpu}),
            tune_config=TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: searcher.folder(trial.trial_id),
            ),
            run_config=RunConfig(
                name=folder.name,
                storage_path=str(folder.parent.resolve()),
                verbose=0,
                callbacks=[recorder],
                # num_to_keep would make Tune save its whole state after every task of any trial.
                checkpoint_config=CheckpointConfig(checkpoint_frequency=1),
                # The searcher hands trials out again.
                failure_config=FailureConfig(max_failures=0),
            ),
        )

    def _planned(self, ray_id: str) -> PlannedTrial:
        assert self._searcher is not None
        return self._searcher.planned(ray_id)

    def _record(self, one: Record) -> None:
        """Stamps and hands on a record; leaves Tune's loop if it cannot be written."""
        one.setdefault("time", round(time.time(), 3))
        if one["kind"] in ("trial", "continued"):
            one["gpus"] = self._gpu
        try:
            self._sink(one)
        except StorageError as error:
            # Without its traceback, which would keep all of Tune alive.
            self._problem = StorageError(str(error))
            raise StoppedError from None
        self._spending.take(one)
        self._past.add(one)

    def _broken(self, error: BaseException) -> None:
        """Leaves Tune's loop since a trial cannot write."""
        self._problem = storage_error(self._output, error)
        raise StoppedError

    def _end_what_had_ended(self, scheduler: CellScheduler) -> None:
        """Plays past results to the scheduler; ends the trials whose end alone is not recorded."""
        results = self._past.results()
        cut = {
            trial.id for trial, task, metrics in results if scheduler.recall(trial, task, metrics)
        }
        for one in self._past.unfinished:
            trial = one.planned
            if trial.tasks not in one.curve and trial.id not in cut:
                continue
            end = end_record(trial, "completed" if trial.tasks in one.curve else "pruned")
            self._record(end)
            if trial.role == "search":
                self._checkpoints.drop(trial.id)

    def _interrupt(self) -> None:
        """Ends the running trials for now, as far as the ledger takes it."""
        with contextlib.suppress(StoppedError):
            for trial in self._searcher.live if self._searcher else ():
                self._record(end_record(trial, "interrupted"))


def _slots(plan: Plan, gpu: float, on_cluster: bool) -> int:
    limit = plan.spec.max_concurrent
    if on_cluster and limit is not None:
        # Trials that find no room are what an autoscaler adds nodes for.
        return limit
    free = slots(plan.spec.resources.cpu, gpu)
    return free if limit is None else min(free, limit)
