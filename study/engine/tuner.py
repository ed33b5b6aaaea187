"""Runs a plan with Ray Tune: one Tuner for the whole grid, every event a record."""

import contextlib
import gc
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

from study.engine.checkpoints import Checkpoints, session_folder
from study.engine.node_check import checked
from study.engine.preflight import check_nodes
from study.engine.ray_session import ray_session
from study.engine.ray_watch import RayWatch, kill_parts, lost_ray, own_parts
from study.engine.recorder import Recorder, StoppedError, error_of, is_nodes
from study.engine.resources import check_resources, gpu_share, slots, wait_for_room
from study.engine.searcher import CellScheduler, StudySearcher
from study.ledger import (
    Journal,
    Record,
    StorageError,
    StudyFolder,
    is_full,
    records,
    storage_error,
)
from study.planning import Plan, PlannedTrial
from study.search import PastTrials, StudySearch
from study.system import own_command, say, show_cursor

# For a report of a study whose driver hangs.
REPORT_SECONDS = 60
# What Tune can raise where its own files cannot be written.
OF_TUNE = (OSError, RuntimeError, tune.TuneError)


def run_study(
    plan: Plan,
    folder: StudyFolder,
    journal: Journal,
    past: PastTrials,
    stopped: Callable[[], bool] = lambda: False,
    trainable: type[tune.Trainable] | None = None,
) -> bool:
    """Runs every search and every confirmation of `plan` that the journal's history leaves open.

    The ledger alone is what a study is restored from: each session has a Tuner and a folder of
    its own.

    Args:
        plan: what to run.
        folder: that of the study, on storage that all nodes share.
        journal: takes each record in order.
        past: the trials of the journal's history as the plan has them.
        stopped: asked several times a second; once it is true, running trials are ended.
        trainable: `ContinualTrainable`, or what takes its place: its config is the flat params,
            and `resume_from`, a checkpoint's folder, where a trial goes on, and `evaluate_after`,
            numbers of tasks, where it is not evaluated after each. Each step learns one task and
            returns task, metrics, accuracy_row, and the metrics at top level under their names.
            Where a trial cannot go on, it returns done, failed (why), reason and the last task
            instead.

    Returns:
        True when the study ran to its end, False when it was stopped.

    Raises:
        MistakeError: if the cluster cannot run one trial, or a node of it is not ready.
        StorageError: if the study's folder takes nothing more; says what to do.
        LostError: if a process of Ray has died; says what to do.
        SystemExit: if the process was asked to end while Ray was starting.
    """
    if trainable is None:
        # Seconds of imports.
        from trainables.ray_trainable import ContinualTrainable

        trainable = ContinualTrainable
    folder.path.mkdir(parents=True, exist_ok=True)
    watch, sessions = RayWatch(), list[_Session]()
    complete = False

    def give_up(dead: str) -> None:
        """Ends this process, whose main thread hangs in Ray: records first, then a report."""
        for session in sessions:
            session.give_up()
        say(f"error: {lost_ray(dead, folder.command('--resume'))}", error=True)
        report = own_command("study.run", ["--report", str(folder.path)])
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(report, check=False, timeout=REPORT_SECONDS)
        show_cursor()
        kill_parts()
        os._exit(1)

    with (
        watch.over(StoppedError, give_up),
        contextlib.suppress(StoppedError),
        ray_session(folder.ray_log) as on_cluster,
    ):
        if on_cluster:
            wait_for_room(plan.spec.resources.cpu, plan.spec.resources.gpu, stopped)
            expected = check_nodes(plan, folder, stopped)
            journal.warn(expected.warnings)
            trainable = checked(trainable, expected)
        gpu = gpu_share(plan)
        check_resources(plan.spec.resources.cpu, gpu)
        sessions.append(_Session(plan, folder, journal, past, gpu, on_cluster))
        watch.begin(own_parts())
        try:
            complete = sessions[0].run(trainable, lambda: stopped() or watch.dead is not None)
        finally:
            # From here on they end as they should.
            watch.begin({})
    if watch.dead is not None and not complete:
        raise lost_ray(watch.dead, folder.command("--resume"))
    return complete


@dataclass(eq=False)
class _Session:
    """One Tuner and what it works with; `journal` is the study's, which `written` goes through."""

    plan: Plan
    folder: StudyFolder
    journal: Journal
    past: PastTrials
    gpu: float
    on_cluster: bool
    problem: StorageError | None = None
    search: StudySearch | None = None
    searcher: StudySearcher | None = None
    start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.written = self.journal.through(self._write)
        self.checkpoints = Checkpoints(self.folder, self.written)

    def run(self, trainable: type[tune.Trainable], stopped: Callable[[], bool]) -> bool:
        """As `run_study`, in a Ray that is running."""
        complete = False
        try:
            self.checkpoints.sweep()
            scheduler = CellScheduler(self.plan.spec, self._planned, self._blame)
            self._end_what_had_ended(scheduler)
            # Tune would start one trial after the other for a searcher it does not know.
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self._slots())
            self.search = StudySearch(self.plan, self.written, self.past, self._slots, self.gpu)
            self.searcher = StudySearcher(self.search, self.written, self.checkpoints, self.gpu)
            self._tuner(trainable, self.searcher, scheduler, stopped).fit()
            complete = True
        except StoppedError:
            self._interrupt()
        except OF_TUNE as error:
            if not is_full(error):
                raise
            self.problem = storage_error(self.folder, error)
            self._interrupt()
        if not complete:
            # Processes of trials end with Tune's objects, which refer to each other in circles.
            gc.collect()
        if self.problem is not None:
            raise self.problem
        if complete:
            self.checkpoints.sweep()
        return complete

    def _blame(self, trial: tune.experiment.Trial) -> None:
        """Tells the searcher whose failure it is that it hears of next."""
        if self.searcher is not None and is_nodes(error_of(trial)):
            self.searcher.blame_node(trial.trial_id)

    def __getstate__(self) -> dict[str, object]:
        # Tuner pickles whatever it is given, for a restore that the ledger serves better.
        return {}

    def _tuner(
        self,
        trainable: type[tune.Trainable],
        searcher: StudySearcher,
        scheduler: CellScheduler,
        stopped: Callable[[], bool],
    ) -> Tuner:
        sessions = max(1, len(self.written.history.sessions))
        place = session_folder(self.folder, sessions)
        recorder = Recorder(searcher, self.written, self.checkpoints, stopped, self._broken)
        return Tuner(
            tune.with_resources(trainable, {"cpu": self.plan.spec.resources.cpu, "gpu": self.gpu}),
            tune_config=TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: searcher.folder(trial.trial_id),
            ),
            run_config=RunConfig(
                name=place.name,
                storage_path=str(place.parent.resolve()),
                verbose=0,
                callbacks=[recorder],
                # num_to_keep would make Tune save its whole state after every task of any trial.
                checkpoint_config=CheckpointConfig(checkpoint_frequency=1),
                # The searcher hands trials out again.
                failure_config=FailureConfig(max_failures=0),
            ),
        )

    def _slots(self) -> int:
        limit = self.plan.spec.max_concurrent
        if self.on_cluster and limit is not None:
            # Trials that find no room are what an autoscaler adds nodes for.
            return limit
        free = slots(self.plan.spec.resources.cpu, self.gpu)
        return free if limit is None else min(free, limit)

    def _planned(self, ray_id: str) -> PlannedTrial:
        assert self.searcher is not None
        return self.searcher.planned(ray_id)

    def _write(self, record: Record) -> Record:
        """Hands a record on to the ledger; leaves Tune's loop if it cannot be written."""
        try:
            return self.journal.write(record)
        except StorageError as error:
            # Without its traceback, which would keep all of Tune alive.
            self.problem = StorageError(str(error))
            raise StoppedError from None

    def _broken(self, error: BaseException) -> None:
        """Leaves Tune's loop since a trial cannot write."""
        self.problem = storage_error(self.folder, error)
        raise StoppedError

    def _end_what_had_ended(self, scheduler: CellScheduler) -> None:
        """Plays past results to the scheduler; ends the trials whose end alone is not recorded."""
        history = self.written.history
        cut = {
            trial.trial
            for trial, task in history.results()
            if scheduler.ends_at(self.past.planned(trial.trial), task.task, task.metrics)
        }
        for planned in self.past.unfinished:
            complete = planned.tasks in history.trials[planned.id].tasks
            if not complete and planned.id not in cut:
                continue
            self.written.append(records.end(planned.id, "completed" if complete else "pruned"))
            if planned.role == "search":
                self.checkpoints.drop(planned.id)

    def give_up(self) -> None:
        """Ends trials and session where nothing else can be waited for."""
        self._interrupt()
        with contextlib.suppress(StoppedError):
            wall = time.monotonic() - self.start
            self.written.append(records.finished("interrupted", wall))

    def _interrupt(self) -> None:
        """Ends the running trials for now, as far as the ledger takes it."""
        history = self.written.history
        with contextlib.suppress(StoppedError):
            for trial in self.search.live if self.search else ():
                if history.trials[trial.id].status == "running":
                    self.written.append(records.end(trial.id, "interrupted"))
