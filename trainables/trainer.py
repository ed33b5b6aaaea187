"""SequentialTrainer: begin task, epochs, end task, evaluate all tasks seen; a checkpoint each."""

import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainables import metrics, usage
from trainables.config import CAME_LATER, TrialConfig
from trainables.data.batches import TaskImages
from trainables.data.stream import ImageSet, Task, class_incremental, joined
from trainables.evaluation import Evaluator, Watch
from trainables.fitting import stages_of, train_epochs
from trainables.frozen import FrozenFeatures
from trainables.method import MethodContext, Rehearsing, Staged, adapted_backbone, create_method

CHECKPOINT_NAME = "trainer.pt"
CHECKPOINT_VERSION = 3
# How a batch is pushed through the network is no part of what a trial is.
FREE_KEYS = ("optim.micro_batch",)


@dataclass(frozen=True)
class TaskResult:
    """What training one task gave: `task` counts tasks seen, from 1.

    `accuracy_row` holds the accuracy on each task seen, in [0, 1], on the stream's split; it is
    empty, and no metric is of accuracies, where nothing was evaluated.
    """

    task: int
    metrics: dict[str, float]
    accuracy_row: tuple[float, ...]


@dataclass(frozen=True)
class TaskLoad:
    """Images of a task: `new` ones, `epoch` in each epoch, `held_out` of all tasks up to it.

    `diagnosed` ones go through the network, at most, for what is only measured.
    """

    new: int
    epoch: int
    held_out: int
    diagnosed: int = 0


class SequentialTrainer:
    """Trains a method over a whole task stream, one task a call.

    All randomness comes from one generator, so that a run resumed at a task boundary equals the
    uninterrupted one bit for bit on a CPU. The network stays in evaluation mode while training,
    as in the released InfLoRA code: batch norm keeps its pretrained statistics. Held-out images are
    evaluated after the numbers of tasks in `evaluate_after`, and after the last task of the stream
    (None: after every task); that changes nothing else.
    """

    def __init__(
        self,
        config: TrialConfig,
        device: str = "cpu",
        evaluate_after: Collection[int] | None = None,
    ) -> None:
        self.config = config
        self._evaluate_after = evaluate_after
        self._device = torch.device(device)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._stream = class_incremental(config.data, config.seed, self._device)
        self._model = adapted_backbone(config).to(self._device)
        if self._device.type == "cuda":
            # The tensor cores' own layout for convolutions: without it each one is turned round.
            self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        context = MethodContext(
            self._model, len(self._stream), self._device, self._generator, config.diagnostics,
            config.data.task_sizes,
        )  # fmt: skip
        self._method = create_method(config.method, context)
        self._frozen = FrozenFeatures(self._model, config)
        self._evaluator = Evaluator(self._model, self._method, self._stream, self._frozen)
        # An empty row after a task that was not evaluated.
        self._matrix: list[tuple[float, ...]] = []
        self._accuracies: list[float] = []
        # The least accuracy on each old task while a task was learned, where that is watched.
        self._lows: list[tuple[float, ...]] = []

    @property
    def device_name(self) -> str:
        """What the trial computes on: the name of the GPU, or "cpu"."""
        cuda = self._device.type == "cuda"
        return torch.cuda.get_device_name(self._device) if cuda else self._device.type

    @property
    def tasks_seen(self) -> int:
        """Number of tasks trained so far."""
        return len(self._matrix)

    @property
    def done(self) -> bool:
        """Whether every task of the stream has been trained."""
        return self.tasks_seen == len(self._stream)

    @property
    def chunk(self) -> int:
        """Most images of the next task that go through the network at once with gradients."""
        optim = self.config.optim
        new = len(self._stream[min(self.tasks_seen, len(self._stream) - 1)].train)
        return min(optim.micro_batch or optim.batch_size, new)

    @property
    def workload(self) -> tuple[TaskLoad, ...]:
        """The images of every task of the stream, trained already or not."""
        seen = held_out = 0
        loads = []
        for task in self._stream:
            new, old = len(task.train), held_out
            seen, held_out = seen + new, held_out + len(task.held_out)
            method = self._method
            epoch = method.epoch_images(new, seen) if isinstance(method, Rehearsing) else new
            diagnosed = self._looks(epoch) * old + (seen if self._reads_out(task) else 0)
            loads.append(TaskLoad(new, epoch, held_out, diagnosed))
        return tuple(loads)

    def train_task(self) -> TaskResult:
        """Trains the next task and evaluates all tasks seen, where that is due.

        RuntimeError if there is no task left. FloatingPointError if the training loss, the
        weights or the scores are not finite. torch.OutOfMemoryError if the device has too
        little memory. After this one and the one before, the trainer is of no more use:
        restore another from the last task.
        """
        if self.done:
            raise RuntimeError(f"all {len(self._stream)} tasks are trained: there is none left.")
        task = self._stream[self.tasks_seen]
        train = self._batches(task.train)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        clock = usage.Clock(self._device)
        groups, recorded = self._method.begin_task(self._model, task, train)
        clock.lap("design")
        trained_on = self._to_train_on(train)
        watch = self._watch(clock)
        loss, epochs = None, 0
        for stage, optim in stages_of(self._method, groups, task, self.config.optim):
            arguments = (self._model, self._method, stage.groups, task, trained_on, optim, watch)
            loss = train_epochs(*arguments, stage.forward)
            epochs += optim.epochs
        train_seconds = clock.lap("train")
        recorded |= self._method.end_task(self._model, task, train)
        clock.lap("absorb")
        read_out = None
        if self._reads_out(task):
            read_out = self._evaluator.fit_read_out()
            clock.lap("diagnose")
        row: tuple[float, ...] = ()
        if self._evaluates(task):
            evaluation = self._evaluator.evaluate(task.index + 1, read_out)
            clock.lap("evaluate")
            row = evaluation.per_task
            self._accuracies.append(evaluation.accuracy)
        self._matrix.append(row)
        split = self._stream.split
        if row:
            recorded |= metrics.summarise(self._matrix, self._accuracies, evaluation, split)
        if watch is not None:
            # As far as the old tasks go: the newest has no earlier accuracy.
            self._lows.append(tuple(map(min, watch.lows, row)))
            recorded |= metrics.while_learning(self._matrix, self._lows, split)
        recorded |= clock.seconds | usage.memory(self._state(), self._device)
        images = 0 if loss is None else len(trained_on) * epochs
        recorded["time/images_per_second"] = images / max(train_seconds, 1e-9)
        if loss is not None:
            recorded["train/loss"] = loss
        return TaskResult(self.tasks_seen, recorded, row)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint at a task boundary; a torn file is never visible."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{CHECKPOINT_NAME}.partial"
        torch.save(self._state(), partial)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(folder / CHECKPOINT_NAME)

    def restore(self, folder: Path) -> None:
        """Takes over a checkpoint; ValueError if it is of another version or config."""
        path = folder / CHECKPOINT_NAME
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] != CHECKPOINT_VERSION:
            raise ValueError(
                f"checkpoint {path} must be of version {CHECKPOINT_VERSION}, "
                f"but it is of {state['version']}."
            )
        here, there = self.config.to_params(), {**CAME_LATER, **state["params"]}
        compared = set(here) - set(FREE_KEYS)
        other = sorted(key for key in compared if there.get(key) != here[key])
        if other:
            raise ValueError(
                f"checkpoint {path} must be of this trial's config, but {other[0]} is "
                f"{there.get(other[0])!r} there and {here[other[0]]!r} here."
            )
        self._generator.set_state(state["generator"].cpu())
        self._model.load_changes(state["model"], self._method.trains_backbone)
        self._method.load_state_dict(state["method"])
        self._matrix = [tuple(row) for row in state["matrix"]]
        self._accuracies = list(state["accuracies"])
        # Those of earlier releases have none, and watched nothing.
        self._lows = [tuple(row) for row in state.get("lows", [])]

    def _to_train_on(self, new: TaskImages) -> TaskImages:
        """The images of the new task or, where the method rehearses, of all tasks seen."""
        if not isinstance(self._method, Rehearsing):
            return new
        # Row numbers and labels only: no image is copied.
        seen = joined([task.train for task in self._stream.tasks[: self.tasks_seen + 1]])
        return self._batches(seen, self._method.epoch_images(len(new.data), len(seen)))

    def time_evaluation(self, most: int) -> tuple[int, float]:
        """Pushes up to `most` held-out images of all tasks through the network, for nothing.

        Returns their number and the seconds that it took. A task must have been trained.
        """
        return self._evaluator.timed(most, self._device)

    @property
    def _confirms(self) -> bool:
        """Whether test images are held out: only then anything is paid for diagnoses of them."""
        return self._stream.split == "test"

    def _evaluates(self, task: Task) -> bool:
        """Whether the tasks seen are evaluated after `task`."""
        after = self._evaluate_after
        return after is None or task is self._stream[-1] or task.index + 1 in after

    def _reads_out(self, task: Task) -> bool:
        """Whether it is measured after `task` what the features are worth."""
        return self._confirms and self.config.diagnostics and task is self._stream[-1]

    def _watch(self, clock: usage.Clock) -> Watch | None:
        """What evaluates old tasks while the next one is trained, where that is asked for."""
        every = self.config.evaluation.during
        # Drops are measured from the accuracy after the task before.
        if every is None or not self._confirms or self._evaluate_after is not None:
            return None
        return Watch(self._evaluator, self.tasks_seen, every, clock)

    def _looks(self, epoch: int) -> int:
        """How often old tasks are evaluated in a task with `epoch` images in each epoch."""
        optim, every = self.config.optim, self.config.evaluation.during
        more = self._method.more_epochs if isinstance(self._method, Staged) else 0
        steps = (optim.epochs + more) * math.ceil(epoch / optim.batch_size)
        return steps // every if every is not None and self._confirms else 0

    def _state(self) -> dict[str, Any]:
        return {
            "version": CHECKPOINT_VERSION,
            "params": self.config.to_params(),
            "generator": self._generator.get_state(),
            "model": self._model.changes(self._method.trains_backbone),
            "method": self._method.state_dict(),
            "matrix": [list(row) for row in self._matrix],
            "accuracies": list(self._accuracies),
            "lows": [list(row) for row in self._lows],
        }

    def _batches(self, images: ImageSet, epoch_images: int | None = None) -> TaskImages:
        return TaskImages(
            data=images,
            batch_size=self.config.optim.batch_size,
            augmentation=self.config.data.augmentation,
            generator=self._generator,
            crop_scale=self.config.data.crop_scale,
            epoch_images=epoch_images,
            frozen=self._frozen,
        )
