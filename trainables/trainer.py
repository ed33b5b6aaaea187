"""SequentialTrainer: begin task, epochs, end task, evaluate all tasks seen; a checkpoint each."""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables import metrics
from trainables.backbones.adapted import build_backbone
from trainables.config import OptimConfig, TrialConfig
from trainables.data.batches import FORWARD_BATCH, TaskImages, to_unit
from trainables.data.stream import ImageSet, Task, class_incremental
from trainables.method import MethodContext, ParamGroup, adapted_slices, create_method

CHECKPOINT_NAME = "trainer.pt"
CHECKPOINT_VERSION = 1


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
        self._stream = class_incremental(config.data, config.seed)
        # In task order, so that the images of all tasks seen are the first ones.
        self._held_out = self._on_device(
            ImageSet(
                torch.cat([task.held_out.images for task in self._stream]),
                torch.cat([task.held_out.labels for task in self._stream]),
            )
        )
        adapt = config.backbone.adapt or adapted_slices(config.method)
        self._model = build_backbone(config, adapt).to(self._device)
        context = MethodContext(self._model, len(self._stream), self._device, self._generator)
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
        train = TaskImages(
            data=self._on_device(task.train),
            batch_size=self.config.optim.batch_size,
            augmentation=self.config.data.augmentation,
            generator=self._generator,
        )
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        clock = _Clock(self._device)
        groups, recorded = self._method.begin_task(self._model, task, train)
        clock.lap("design")
        loss = self._train(groups, task, train)
        train_seconds = clock.lap("train")
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss must be finite, but it is {loss} at task {task.index + 1}; "
                f"a smaller optim.lr may help."
            )
        recorded |= self._method.end_task(self._model, task, train)
        clock.lap("absorb")
        evaluation = self._evaluate()
        clock.lap("evaluate")
        self._matrix.append(evaluation.per_task)
        self._accuracies.append(evaluation.accuracy)
        recorded |= metrics.summarise(
            self._matrix, self._accuracies, evaluation, self._stream.split
        )
        images = len(train.data) * self.config.optim.epochs
        recorded |= (
            clock.seconds
            | self._memory()
            | {
                "train/loss": loss,
                "time/images_per_second": images / max(train_seconds, 1e-9),
            }
        )
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

    def _train(self, groups: list[ParamGroup], task: Task, train: TaskImages) -> float:
        """Runs all epochs; returns the mean loss of the last one."""
        self._model.requires_grad_(False)
        for group in groups:
            for parameter in group.parameters:
                parameter.requires_grad_(True)
        optim = self.config.optim
        optimizer = _optimizer(groups, optim)
        batches = math.ceil(len(train.data) / optim.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, _schedule(optim, optim.epochs * batches)
        )
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
        for group in groups:
            for parameter in group.parameters:
                parameter.requires_grad_(False)
                parameter.grad = None
        return float(total) / len(train.data)

    @torch.no_grad()
    def _evaluate(self) -> metrics.Evaluation:
        """Pushes each held-out image of all tasks seen through the network once."""
        seen = self._stream.tasks[: self.tasks_seen + 1]
        count = sum(len(task.held_out) for task in seen)
        logits = [
            self._method.logits(self._model(to_unit(batch)))
            for batch in self._held_out.images[:count].split(FORWARD_BATCH)
        ]
        scores = torch.cat(logits)
        if not bool(torch.isfinite(scores).all()):
            raise FloatingPointError(
                f"scores must be finite, but they are not after task {len(seen)}; "
                f"a smaller optim.lr may help."
            )
        return metrics.evaluate(
            scores, self._held_out.labels[:count], [task.classes for task in seen]
        )

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

    def _memory(self) -> dict[str, float]:
        values = {"memory/checkpoint_bytes": float(_tensor_bytes(self._state()))}
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
            values["memory/peak_device_bytes"] = float(peak)
        statm = Path("/proc/self/statm")
        if statm.exists():
            pages = int(statm.read_text(encoding="ascii").split()[1])
            values["memory/host_rss_bytes"] = float(pages * os.sysconf("SC_PAGE_SIZE"))
        return values

    def _on_device(self, images: ImageSet) -> ImageSet:
        return ImageSet(images.images.to(self._device), images.labels.to(self._device))


class _Clock:
    """Seconds between laps, after waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        self.seconds[f"time/{name}_seconds"] = elapsed
        return elapsed


def _optimizer(groups: list[ParamGroup], config: OptimConfig) -> torch.optim.Optimizer:
    rates = {"alpha": config.alpha_lr, "head": config.head_lr}
    settings: list[dict[str, Any]] = [
        {"params": group.parameters, "lr": rates.get(group.role) or config.lr}
        for group in groups
        if group.parameters
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            settings, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(settings, lr=config.lr, weight_decay=config.weight_decay)


def _schedule(config: OptimConfig, steps: int) -> Any:
    """Factor on the learning rate by step: constant, or half a cosine down to 0."""
    if config.schedule == "constant":
        return lambda step: 1.0
    return lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step, steps) / steps))


def _tensor_bytes(state: Any) -> int:
    """Size of all tensors in nested dicts and lists, in bytes."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(_tensor_bytes(value) for value in state.values())
    if isinstance(state, list | tuple):
        return sum(_tensor_bytes(value) for value in state)
    return 0
