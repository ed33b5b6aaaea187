"""The Method protocol: what one continual-learning method adds to the sequential trainer."""

import importlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from trainables.backbones import selection
from trainables.backbones.adapted import AdaptedBackbone, dry_run, insert_branches
from trainables.backbones.inspection import layers_of
from trainables.backbones.pixels import Resize, input_layer
from trainables.backbones.registry import create_network
from trainables.config import TrialConfig, catalog
from trainables.data.batches import TaskImages
from trainables.data.stream import Task


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate: optim.lr, optim.alpha_lr or optim.head_lr."""

    role: Literal["up", "alpha", "head", "backbone"]
    parameters: list[nn.Parameter]


class Method(Protocol):
    """One method; it is built once a trial and sees the tasks in order.

    Its `method.py` has `create(config, context)`. `trains_backbone` says that checkpoints must hold
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


def adapted_backbone(config: TrialConfig) -> AdaptedBackbone:
    """The network of a trial, with branches where its config says.

    ValueError if the network does not call a layer that is to be adapted, or its checkpoint does
    not hold its weights. The seed only matters for networks without pretrained weights.
    """
    chosen, channels, size = config.backbone, config.data.channels, config.input_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = create_network(
            chosen.name, chosen.pretrained, chosen.checkpoint, size, channels
        ).eval()
    selected = selection.select(layers_of(network), chosen.layers, chosen.blocks)
    adapt = chosen.adapt or catalog.declaration(config.method.name).adapts
    layers = insert_branches(network, selected, adapt)
    width, calls = dry_run(network, selected, torch.zeros(1, channels, size, size))
    inputs = input_layer(network, chosen.normalise, channels)
    if size != config.data.image_size:
        inputs = nn.Sequential(Resize(size), inputs)
    return AdaptedBackbone(network, layers, width, inputs, config.optim.precision, calls).eval()


def create_method(config: Any, context: MethodContext) -> Method:
    """Builds the method that `config` is of: `create` in the folder named by `config.name`."""
    base = catalog.declaration(config.name).base
    module = importlib.import_module(f"trainables.methods.{base}.method")
    method: Method = module.create(config, context)
    return method
