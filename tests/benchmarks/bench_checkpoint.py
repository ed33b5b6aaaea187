"""A trial's checkpoint after 50 tasks of ViT-B: its bytes, and the seconds that saving takes.

The state is put together (random updates or pairs, memories of just under half of all dimensions,
which is the most that they store, old moments of random tokens), then the trainer's own `save`
writes it. Seconds are compared with those of a task of CIFAR-100's size in 50 tasks (1,000 images,
five epochs), from the time of one training step here; waiting for the disk counts.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from tests.benchmarks import measuring, ours
from trainables.config import TrialConfig
from trainables.methods.inflora.method import InfLoRA
from trainables.methods.sd_lora.method import SDLoRA
from trainables.trainer import CHECKPOINT_NAME, SequentialTrainer

MOST_BYTES = 100e6
MOST_SHARE = 0.02
TRAIN_IMAGES = 1000
EPOCHS = 5
REPEATS = 3
TOKENS = 2000
# A flat spectrum and this threshold give a memory of just under half of all dimensions.
HALF = 0.4999


def rows() -> Iterator[measuring.Row]:
    """Two rows a method: bytes in units of the limit, seconds over a task's."""
    ours.prepare()
    device, batch = measuring.device(), ours.batch()
    for method in ours.METHODS:
        with TemporaryDirectory() as folder:
            size, seconds = save_after(method, ours.VIT, device, Path(folder))
        name = f"checkpoint, {method}: bytes after {ours.TASKS} tasks / 100 MB"
        yield measuring.Row(name, size / MOST_BYTES, 1.0, f"{size / 1e6:.1f} MB")
        images = ours.random_images(batch, device)
        trial = ours.at_task(ours.config_of(method, batch), ours.TASKS, images)
        step = measuring.in_turns({"step": trial.train_steps}, device, 1)["step"]
        task = step * EPOCHS * TRAIN_IMAGES / batch
        note = f"{seconds:.2f} s / {task:.0f} s ({TRAIN_IMAGES} images, {EPOCHS} epochs)"
        name = f"checkpoint, {method}: seconds of a save / of a task"
        yield measuring.Row(name, seconds / task, MOST_SHARE, note)


def save_after(
    method: str, network: str, device: torch.device, folder: Path, width: int = 768
) -> tuple[int, float]:
    """Bytes and seconds (median) of a checkpoint after all 50 tasks."""
    # Pixels of 32 suffice: what is saved does not depend on them.
    with ours.random_set(ours.CLASSES * ours.TASKS, 2, 1, 32) as keys:
        changes = {"data.tasks": ours.TASKS, "backbone.image_size": 224}
        params = {**keys, **ours.released(method, network), **changes}
        trainer = SequentialTrainer(TrialConfig.from_params(params), device.type)
        _fill(trainer, width)
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            trainer.save(folder)
            seconds.append(time.perf_counter() - start)
    return (folder / CHECKPOINT_NAME).stat().st_size, statistics.median(seconds)


def _fill(trainer: SequentialTrainer, width: int) -> None:
    """Gives a trainer the state that 50 tasks leave; only the trainer itself can save it."""
    model, method, device = trainer._model, trainer._method, trainer._device
    moments = {name: _moment(width) for name in model.layers}
    if isinstance(method, InfLoRA):
        ours.merge_updates(model, method, ours.TASKS, torch.Generator())
        for name in model.layers:
            method._memories[name].absorb(torch.eye(width, dtype=torch.float64), HALF)
        method._old.add(moments, TRAIN_IMAGES)
    if isinstance(method, SDLoRA):
        # What the diagnosis keeps is given below, without 50 passes.
        method._diagnostics, method._watch._old.enabled = False, False
        ours.stack_pairs(model, method, ours.TASKS, ours.random_images(1, device))
        method._watch._old.enabled = True
        method._watch._old.add(moments, TRAIN_IMAGES)
    trainer._matrix = [(0.5,) * seen for seen in range(1, ours.TASKS + 1)]
    trainer._accuracies = [0.5] * ours.TASKS


def _moment(width: int) -> Tensor:
    tokens = torch.randn(TOKENS, width, dtype=torch.float64)
    return tokens.T @ tokens / TOKENS
