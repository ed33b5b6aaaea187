"""This project's trial as it stands at the start of task t, without training t − 1 tasks.

Random updates stand for trained ones: what a step costs does not depend on their values.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks import measuring
from trainables.backbones.adapted import AdaptedBackbone
from trainables.config import TrialConfig
from trainables.data.batches import TaskImages
from trainables.data.images import ArrayImages
from trainables.data.stream import ImageSet, Task
from trainables.fitting import train_epochs
from trainables.heads import TaskHeads
from trainables.low_rank.branch import LowRankBranch
from trainables.method import Method, MethodContext, ParamGroup, adapted_backbone, create_method

VIT = "vit_base_patch16_224"
EMBEDDED = SMALL, PLAIN = ("compact_vit", "plain_vit")
METHODS = os.environ.get("BENCH_METHODS", "inflora,sd_lora").split(",")
NETWORK = os.environ.get("BENCH_NETWORK", VIT)
PRECISION = "optim.precision"
TASKS = 50
# As CIFAR-100 in 50 tasks.
CLASSES = 2
# Small beside a pretrained weight, as an update is.
DEVIATION = 0.02


@dataclass(frozen=True)
class OurTrial:
    """A trial in task number `tasks`, ready to train: what `train_epochs` takes."""

    config: TrialConfig
    model: AdaptedBackbone
    method: Method
    groups: list[ParamGroup]
    task: Task
    train: TaskImages

    def train_steps(self) -> None:
        """All epochs, each over all images, in the trial's own batches."""
        train_epochs(self.model, self.method, self.groups, self.task, self.train, self.config.optim)


def config_of(
    method: str, batch: int, epochs: int = 1, network: str = VIT, precision: str | None = None
) -> TrialConfig:
    """A trial of 50 tasks of two classes, on CIFAR-100's images at 224 pixels.

    The embedded networks see icons of 32 pixels, the only ones they take. `precision` is that of
    the network (None: the first that is worth a measurement on this machine).
    """
    small = network in EMBEDDED
    return TrialConfig.from_params(
        {
            **released(method, network),
            "data.name": "icons" if small else "cifar100",
            "data.classes": CLASSES * TASKS,
            "data.tasks": TASKS,
            "data.image_size": 32 if small else 224,
            "data.augmentation": "none",
            "optim.batch_size": batch,
            "optim.epochs": epochs,
            "diagnostics": False,
            PRECISION: precision or measuring.precisions()[0],
        }
    )


def released(method: str, network: str) -> dict[str, Any]:
    """What makes a trial that of the released recipe, with random weights."""
    backbone = {"backbone.name": network, "backbone.pretrained": False}
    return {"method.name": method, "preset": "released", **backbone}


def batch() -> int:
    """Images of a step: BENCH_BATCH, by default 8, or 128 on a GPU."""
    return int(os.environ.get("BENCH_BATCH", "128" if measuring.device().type == "cuda" else "8"))


def at_task(config: TrialConfig, tasks: int, images: Tensor) -> OurTrial:
    """The trial at task number `tasks`, on `images` (n, c, size, size) uint8 on the device."""
    device = images.device
    generator = torch.Generator().manual_seed(0)
    model = adapted_backbone(config).to(device)
    if device.type == "cuda":
        # As the trainer has it.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    context = MethodContext(model, TASKS, device, generator, config.diagnostics)
    method = create_method(config.method, context)
    if config.method.name == "inflora":
        merge_updates(model, method, tasks - 1, generator)
    else:
        stack_pairs(model, method, tasks - 1, images)
    task, train = _task(tasks - 1, images, config.optim.batch_size, generator)
    groups, _ = method.begin_task(model, task, train)
    return OurTrial(config, model, method, groups, task, train)


@torch.no_grad()
def merge_updates(
    model: AdaptedBackbone, method: Method, count: int, generator: torch.Generator
) -> None:
    """`count` random updates merged into every adapted layer, with a head for each."""
    heads = TaskHeads(model.width, next(model.parameters()).device, generator, "small_normal")
    for _ in range(count):
        heads.add(CLASSES)
        for layer in model.layers.values():
            _randomise(list(layer.add_branch(10).values()))
            layer.merge()
    method.load_state_dict({**method.state_dict(), "heads": heads.state_dict()})


@torch.no_grad()
def stack_pairs(model: AdaptedBackbone, method: Method, count: int, images: Tensor) -> None:
    """`count` tasks of SD-LoRA begun and ended with random pairs, through the method itself."""
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        task, train = _task(index, images, len(images), generator)
        method.begin_task(model, task, train)
        for layer in model.layers.values():
            _randomise([layer.branch_of(name) for name in layer.slices])
        method.end_task(model, task, train)


def random_images(count: int, device: torch.device, channels: int = 3, size: int = 224) -> Tensor:
    """Images (n, channels, size, size) uint8 of random pixels."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).to(device)


@contextmanager
def random_set(classes: int, train: int, test: int, size: int) -> Iterator[dict[str, object]]:
    """The flat keys of a file with so many images of each class, while the block lasts."""
    each = train + test
    generator = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        np.savez(
            Path(folder) / "random.npz",
            images=generator.integers(0, 256, (classes * each, size, size, 3), dtype=np.uint8),
            labels=np.repeat(np.arange(classes), each),
            split=np.array((["train"] * train + ["test"] * test) * classes),
        )
        yield {
            "data.name": "npz:random",
            "data.root": folder,
            "data.split": "published",
            "data.cache": "off",
            "data.image_size": size,
            "data.evaluation": "test",
        }


def prepare() -> None:
    """Torch as a trial of one core has it, and the same random weights in every run."""
    measuring.use_threads()
    torch.manual_seed(0)


def _task(
    index: int, images: Tensor, batch: int, generator: torch.Generator
) -> tuple[Task, TaskImages]:
    rows = torch.arange(len(images))
    labels = rows.to(images.device) % CLASSES + CLASSES * index
    data = ImageSet(ArrayImages(images), rows, labels)
    task = Task(index, range(CLASSES * index, CLASSES * (index + 1)), data, data)
    return task, TaskImages(data, batch, "none", generator)


def _randomise(branches: list[LowRankBranch]) -> None:
    for branch in branches:
        branch.down.normal_(0.0, DEVIATION)
        branch.up.normal_(0.0, DEVIATION)
