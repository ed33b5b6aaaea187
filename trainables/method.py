"""The Method protocol: what one continual-learning method adds to the sequential trainer."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from trainables.backbones.adapted import AdaptedBackbone
from trainables.catalog import method_file
from trainables.data.batches import TaskImages
from trainables.data.stream import Task


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate: optim.lr, optim.alpha_lr or optim.head_lr."""

    role: Literal["up", "alpha", "head", "backbone"]
    parameters: list[nn.Parameter]


class Method(Protocol):
    """One method; it is built once a trial and sees the tasks in order.

    Its file also names ADAPTS, the slices of the fused qkv that take branches unless the config
    says others, and `create(config, context)`. `trains_backbone` says that checkpoints must hold
    the whole network. One that is also `Rehearsing` trains on the images of all tasks seen so far.
    """

    trains_backbone: bool

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Prepares the model for a task; returns what to optimise and metrics to record."""
        ...

    def logits(self, features: Tensor) -> Tensor:
        """Scores (n, classes seen) of features (n, width)."""
        ...

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Training loss of a batch; `classes` are the current task's."""
        ...

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Consolidates the task and returns metrics to record."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the model's changes."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        ...


@runtime_checkable
class Rehearsing(Protocol):
    """A method that trains on the images of all tasks seen: it says how long an epoch is."""

    def epoch_images(self, new: int, seen: int) -> int:
        """Images an epoch draws from the `seen` ones, of which `new` are the task's own."""
        ...


@dataclass(frozen=True)
class MethodContext:
    """What a method is built with beside its config; `diagnostics` says whether to measure."""

    model: AdaptedBackbone
    tasks: int
    device: torch.device
    generator: torch.Generator
    diagnostics: bool = True


def create_method(config: Any, context: MethodContext) -> Method:
    """Builds the method that `config` is of: `create` of the file named by `config.name`."""
    module = _module(config)
    method: Method = module.create(config, context)
    return method


def adapted_slices(config: Any) -> tuple[str, ...]:
    """Slices of the fused qkv that the method of `config` puts branches on by itself."""
    slices: tuple[str, ...] = _module(config).ADAPTS
    return slices


def _module(config: Any) -> ModuleType:
    """The file of the method of `config`, or of the one it is a variant of."""
    return importlib.import_module(f"trainables.methods.{method_file(config.name).base}")
