"""ContinualTrainable: the trainer as Ray Tune sees it, one step a task."""

import gc
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import get_runtime_context, tune

if TYPE_CHECKING:
    from trainables.trainer import SequentialTrainer, TaskResult

RESUME_FROM = "resume_from"
EVALUATE_AFTER = "evaluate_after"
MICRO_BATCH = "optim.micro_batch"
OUT_OF_MEMORY = "out_of_memory"
# What a trial that failed in its first task leaves in place of a checkpoint.
NOTHING_LEARNED = "no_task_finished"


class ContinualTrainable(tune.Trainable):
    """Wraps SequentialTrainer; `config` is the flat form of a TrialConfig.

    A result holds `task` (tasks seen), `metrics` (also flattened at the top, under their own
    names, for schedulers) and `accuracy_row`. Checkpoints sit at task boundaries. torch is only
    imported where a trial is set up: the process that drives the study does without.

    A trial that diverges, or whose device has too little memory, does not raise: its last result
    holds `failed` (the error), `reason` ("diverged" or "out_of_memory"), `task` and no metrics.
    The first time that memory runs out, the task is trained again from the last task boundary in
    micro-batches of half the size, whose gradients add up to the same batch; from then on
    memory/micro_batch is among the metrics. A method whose loss is no mean over images has no
    second try.

    `config` may hold "resume_from", the absolute path of a checkpoint's folder. It is read when
    the first step begins, unless Ray restores a checkpoint of its own before: by then the folder
    may be gone. One that is missing or broken is an error, since nothing here could tell whether
    starting from scratch is what a person wants.

    It may hold "evaluate_after" too, the numbers of tasks after which held-out images are
    evaluated (also after the last of the stream); after others `accuracy_row` is empty.
    """

    _trainer: "SequentialTrainer"
    _params: dict[str, Any]
    _evaluate_after: Sequence[int] | None
    # The folder to start from, until that has happened.
    _resume: Path | None
    # A task boundary as a file of this process's own, for a second try, and its tasks.
    _kept: Path | None
    _kept_tasks: int
    # Tasks trained, also while there is no trainer.
    _seen: int
    _failed: bool
    _reduced: bool

    def setup(self, config: dict[str, Any]) -> None:
        """Builds the trainer on the GPU that Ray assigned, else on the CPU."""
        self._params = dict(config)
        resume = self._params.pop(RESUME_FROM, None)
        self._evaluate_after = self._params.pop(EVALUATE_AFTER, None)
        self._resume = None if resume is None else Path(resume)
        self._kept, self._kept_tasks, self._seen = None, 0, 0
        self._failed = self._reduced = False
        self._build()

    def step(self) -> dict[str, Any]:
        """Trains one task; ValueError if there is no whole checkpoint in resume_from."""
        self._take_up()
        chunk, again = self._trainer.chunk, self._kept_tasks == self._seen
        result = self._attempt(afresh=False)
        if result.get("reason") != OUT_OF_MEMORY or self._reduced or chunk < 2 or not again:
            return result
        if not self._divisible():
            return result
        self._reduced, self._failed = True, False
        self._params[MICRO_BATCH] = chunk // 2
        return self._attempt(afresh=True)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the trainer's state; after a failure, that of the last task boundary."""
        folder = Path(checkpoint_dir)
        if not self._failed:
            self._take_up()
            self._trainer.save(folder)
            self._keep(folder)
        elif self._kept is not None:
            shutil.copytree(self._kept, folder, dirs_exist_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / NOTHING_LEARNED).touch()

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Takes the trainer's state over from a folder."""
        self._resume = None
        self._trainer.restore(Path(checkpoint))
        self._keep(Path(checkpoint))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Starts another trial in the same process."""
        self._forget()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Removes what was kept for a second try."""
        self._forget()

    def _attempt(self, afresh: bool) -> dict[str, Any]:
        """Trains a task, `afresh` with a new trainer.

        A method of its own, since an error's traceback would keep the tensors of the task.
        """
        import torch

        try:
            if afresh:
                self._build()
                if self._kept is not None:
                    self._trainer.restore(self._kept)
            return self._result(self._trainer.train_task())
        except FloatingPointError as error:
            return self._failure("diverged", error)
        except torch.OutOfMemoryError as error:
            return self._failure(OUT_OF_MEMORY, error)

    def _build(self) -> None:
        import torch

        from trainables.config import TrialConfig
        from trainables.trainer import SequentialTrainer

        # What there was before goes first: two trainers may be more than the device can hold.
        self.__dict__.pop("_trainer", None)
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        # Ray leaves all GPUs visible to a process that it assigned none.
        assigned = get_runtime_context().get_accelerator_ids().get("GPU")
        device = "cuda" if assigned and torch.cuda.is_available() else "cpu"
        config = TrialConfig.from_params(self._params)
        self._trainer = SequentialTrainer(config, device, self._evaluate_after)

    def _divisible(self) -> bool:
        """Whether a batch may go through the network in parts."""
        from trainables.config import PromptingConfig

        method = self._trainer.config.method
        return not isinstance(method, PromptingConfig) or method.whole_batch is None

    def _take_up(self) -> None:
        """Restores the trainer from `resume_from`, once."""
        if self._resume is None:
            return
        folder, self._resume = self._resume, None
        try:
            self._trainer.restore(folder)
        except (OSError, EOFError, RuntimeError, LookupError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{RESUME_FROM} must be a folder with a whole checkpoint, but {folder} is not "
                f"({type(error).__name__}: {error})."
            ) from error
        self._keep(folder)

    def _keep(self, folder: Path) -> None:
        """Keeps the checkpoint in `folder` at hand: Ray may move or delete it at any time."""
        from trainables.trainer import CHECKPOINT_NAME

        kept = Path(self.logdir) / "last_task"
        kept.mkdir(parents=True, exist_ok=True)
        new = kept / f"{CHECKPOINT_NAME}.new"
        new.unlink(missing_ok=True)
        try:
            os.link(folder / CHECKPOINT_NAME, new)
        except OSError:  # on another disk, or one that knows no links
            shutil.copyfile(folder / CHECKPOINT_NAME, new)
        new.replace(kept / CHECKPOINT_NAME)
        self._kept, self._kept_tasks = kept, self._trainer.tasks_seen
        self._seen = self._kept_tasks

    def _forget(self) -> None:
        if self._kept is not None:
            shutil.rmtree(self._kept, ignore_errors=True)

    def _result(self, result: "TaskResult") -> dict[str, Any]:
        self._seen = result.task
        metrics = dict(result.metrics)
        if self._reduced:
            metrics["memory/micro_batch"] = float(self._params[MICRO_BATCH])
        return {
            **metrics,
            "task": result.task,
            "metrics": metrics,
            "accuracy_row": list(result.accuracy_row),
            "device": self._trainer.device_name,
            "done": self._trainer.done,
        }

    def _failure(self, reason: str, error: Exception) -> dict[str, Any]:
        self._failed = True
        lines = str(error).strip().splitlines() or [""]
        return {
            "done": True,
            "failed": f"{type(error).__name__}: {lines[0]}",
            "reason": reason,
            "task": self._seen,
        }
