"""SequentialTrainer: begin task, epochs, end task, evaluate all tasks seen; a checkpoint each."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainables import metrics, usage
from trainables.backbones.adapted import build_backbone
from trainables.config import TrialConfig
from trainables.data.batches import FORWARD_BATCH, TaskImages, to_unit
from trainables.data.stream import ImageSet, Task, class_incremental, joined
from trainables.method import (
    MethodContext,
    ParamGroup,
    Rehearsing,
    adapted_slices,
    create_method,
)
from trainables.optimisation import create_optimizer, create_schedule

CHECKPOINT_NAME = "trainer.pt"
CHECKPOINT_VERSION = 2


@dataclass(frozen=True)
class TaskResult:
    """What training one task gave: `task` counts tasks seen, from 1.

    `accuracy_row` holds the accuracy on each task seen, in [0, 1], on the stream's split.
    """

    task: int
    metrics: dict[str, float]
    accuracy_row: tuple[float, ...]


class SequentialTrainer:
    """Trains a method over a whole task stream, one task a call.

    All randomness comes from one generator, so that a run resumed at a task boundary equals the
    uninterrupted one bit for bit on a CPU. The network stays in evaluation mode while training,
    as in the released InfLoRA code: batch norm keeps its pretrained statistics.
    """

    def __init__(self, config: TrialConfig, device: str = "cpu") -> None:
        self.config = config
        self._device = torch.device(device)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._stream = class_incremental(config.data, config.seed, self._device)
        self._held_out = joined([task.held_out for task in self._stream])
        adapt = config.backbone.adapt or adapted_slices(config.method)
        self._model = build_backbone(config, adapt).to(self._device)
        context = MethodContext(
            self._model, len(self._stream), self._device, self._generator, config.diagnostics
        )
        self._method = create_method(config.method, context)
        self._matrix: list[tuple[float, ...]] = []
        self._accuracies: list[float] = []

    @property
    def tasks_seen(self) -> int:
        """Number of tasks trained so far."""
        return len(self._matrix)

    @property
    def done(self) -> bool:
        """Whether every task of the stream has been trained."""
        return self.tasks_seen == len(self._stream)

    def train_task(self) -> TaskResult:
        """Trains the next task and evaluates all tasks seen.

        Raises:
            RuntimeError: if there is no task left.
            FloatingPointError: if the training loss is no longer finite.
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
        loss = self._train(groups, task, trained_on)
        train_seconds = clock.lap("train")
        recorded |= self._method.end_task(self._model, task, train)
        clock.lap("absorb")
        evaluation = self._evaluate()
        clock.lap("evaluate")
        self._matrix.append(evaluation.per_task)
        self._accuracies.append(evaluation.accuracy)
        recorded |= metrics.summarise(
            self._matrix, self._accuracies, evaluation, self._stream.split
        )
        recorded |= clock.seconds | usage.memory(self._state(), self._device)
        images = 0 if loss is None else len(trained_on) * self.config.optim.epochs
        recorded["time/images_per_second"] = images / max(train_seconds, 1e-9)
        if loss is not None:
            recorded["train/loss"] = loss
        return TaskResult(self.tasks_seen, recorded, evaluation.per_task)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint at a task boundary; a torn file is never visible."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{CHECKPOINT_NAME}.partial"
        torch.save(self._state(), partial)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(folder / CHECKPOINT_NAME)

    def restore(self, folder: Path) -> None:
        """Takes over a checkpoint of the same config.

        Raises:
            ValueError: if the checkpoint is of another version or another config.
        """
        path = folder / CHECKPOINT_NAME
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] != CHECKPOINT_VERSION:
            raise ValueError(
                f"checkpoint {path} must be of version {CHECKPOINT_VERSION}, "
                f"but it is of {state['version']}."
            )
        params = self.config.to_params()
        other = sorted(key for key in params if state["params"].get(key) != params[key])
        if other:
            raise ValueError(
                f"checkpoint {path} must be of this trial's config, but {other[0]} is "
                f"{state['params'].get(other[0])!r} there and {params[other[0]]!r} here."
            )
        self._generator.set_state(state["generator"].cpu())
        self._model.load_changes(state["model"], self._method.trains_backbone)
        self._method.load_state_dict(state["method"])
        self._matrix = [tuple(row) for row in state["matrix"]]
        self._accuracies = list(state["accuracies"])

    def _to_train_on(self, new: TaskImages) -> TaskImages:
        """The images of the new task or, where the method rehearses, of all tasks seen."""
        if not isinstance(self._method, Rehearsing):
            return new
        # Row numbers and labels only: no image is copied.
        seen = joined([task.train for task in self._stream.tasks[: self.tasks_seen + 1]])
        return self._batches(seen, self._method.epoch_images(len(new.data), len(seen)))

    def _train(self, groups: list[ParamGroup], task: Task, train: TaskImages) -> float | None:
        """Runs all epochs; returns the mean loss of the last one, None if nothing is trained."""
        self._model.requires_grad_(False)
        trained = [one for group in groups for one in group.parameters]
        if not trained:
            return None
        for parameter in trained:
            parameter.requires_grad_(True)
        optim = self.config.optim
        optimizer = create_optimizer(groups, optim)
        schedule = create_schedule(optimizer, optim, math.ceil(len(train) / optim.batch_size))
        total = torch.zeros((), device=self._device)
        for _ in range(optim.epochs):
            total.zero_()
            for images, labels in train.shuffled():
                logits = self._method.logits(self._model(images))
                loss = self._method.loss(logits, labels, task.classes)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(labels)
        for parameter in trained:
            parameter.requires_grad_(False)
            parameter.grad = None
        mean = float(total) / len(train)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the training loss must be finite, but it is {mean} at task {task.index + 1}; "
                f"a smaller optim.lr may help."
            )
        return mean

    @torch.no_grad()
    def _evaluate(self) -> metrics.Evaluation:
        """Pushes each held-out image of all tasks seen through the network once."""
        seen = self._stream.tasks[: self.tasks_seen + 1]
        held_out = self._held_out.first(sum(len(task.held_out) for task in seen))
        logits = [
            self._method.logits(self._model(to_unit(batch)))
            for batch in held_out.batches(FORWARD_BATCH)
        ]
        scores = torch.cat(logits)
        if not bool(torch.isfinite(scores).all()):
            raise FloatingPointError(
                f"scores must be finite, but they are not after task {len(seen)}; "
                f"a smaller optim.lr may help."
            )
        return metrics.evaluate(scores, held_out.labels, [task.classes for task in seen])

    def _state(self) -> dict[str, Any]:
        return {
            "version": CHECKPOINT_VERSION,
            "params": self.config.to_params(),
            "generator": self._generator.get_state(),
            "model": self._model.changes(self._method.trains_backbone),
            "method": self._method.state_dict(),
            "matrix": [list(row) for row in self._matrix],
            "accuracies": list(self._accuracies),
        }

    def _batches(self, images: ImageSet, epoch_images: int | None = None) -> TaskImages:
        return TaskImages(
            data=images,
            batch_size=self.config.optim.batch_size,
            augmentation=self.config.data.augmentation,
            generator=self._generator,
            crop_scale=self.config.data.crop_scale,
            epoch_images=epoch_images,
        )
