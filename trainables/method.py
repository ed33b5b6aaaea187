"""The Method protocol: what one continual-learning method adds to the sequential trainer."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

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
    """Parameters that share a learning rate: that of their role in `optim`, or `lr` of their own.

    Roles with a rate are "alpha", "head" and "prompt"; the others have optim.lr.
    """

    role: Literal["up", "alpha", "head", "backbone", "prompt"]
    parameters: list[nn.Parameter]
    lr: float | None = None


class Method(Protocol):
    """One method; it is built once a trial and sees the tasks in order.

    Its `method.py` has `create(config, context)`. `trains_backbone` says that checkpoints must hold
    the whole network. One that is also `Rehearsing` trains on the images of all tasks seen so far,
    one that is `Prompting` scores images and not features, one that is `Staged` says how a task is
    trained, and how often, one that is `Updating` takes the steps itself, one that is
    `TrainedApart` says what scores it is trained by, one that is `Penalised` adds to the loss.
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
class TrainedApart(Protocol):
    """A method that may be trained by other scores than it is tested by."""

    def trained_logits(self, features: Tensor) -> Tensor:
        """Scores of features (n, width) that the loss is of."""
        ...


@runtime_checkable
class Penalised(Protocol):
    """A method whose loss has a term of the features.

    It is a mean over images, or the config refuses micro-batches (`UpdatingConfig.check_optim`).
    """

    def penalty(self, features: Tensor, labels: Tensor) -> Tensor:
        """The number that is added to the loss of images by their features (n, width)."""
        ...


@runtime_checkable
class Rehearsing(Protocol):
    """A method that trains on the images of all tasks seen: it says how long an epoch is."""

    def epoch_images(self, new: int, seen: int) -> int:
        """Images an epoch draws from the `seen` ones, of which `new` are the task's own."""
        ...


@dataclass(frozen=True)
class Scored:
    """What a prompting method makes of n images.

    `logits` (n, classes seen, or more) of the `features` (n, width); `penalty`, a number that is
    added to the loss; `chosen` (n, prompts), whether a prompt was chosen for an image, None where
    nothing is chosen.
    """

    logits: Tensor
    features: Tensor
    penalty: Tensor
    chosen: Tensor | None = None


@runtime_checkable
class Prompting(Protocol):
    """A method that maps images to scores by itself, since its prompts depend on them.

    `chosen_are` says what the columns of `Scored.chosen` are: prompts of a pool, or tasks.
    """

    chosen_are: Literal["prompt", "task"]

    def forward(
        self,
        model: AdaptedBackbone,
        images: Tensor,
        task: Task | None = None,
        queries: Tensor | None = None,
    ) -> Scored:
        """Scores images (n, c, h, w); `task` is the one that is trained, None at test.

        `queries` are their features without prompts (`AdaptedBackbone.query`), where they are
        known already.
        """
        ...

    def exported(self, model: AdaptedBackbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Prompts by name and how `PromptedNetwork` applies them.

        ValueError if an image is not scored by itself.
        """
        ...


# As `Prompting.forward`.
Forward: TypeAlias = Callable[[AdaptedBackbone, Tensor, Task | None, Tensor | None], Scored]


@dataclass(frozen=True)
class Stage:
    """One training of a task: what learns, and for how long.

    `epochs` of its own come with a `schedule` of their own, None are optim's, schedule and all.
    `forward` scores images in place of the method's.
    """

    groups: list[ParamGroup]
    epochs: int | None = None
    forward: Forward | None = None
    schedule: Literal["cosine", "constant"] = "cosine"


@runtime_checkable
class Staged(Protocol):
    """A method that trains a task in stages, one after the other, or scores it in another way.

    `more_epochs` are those of the stages that have their own.
    """

    more_epochs: int

    def stages(self, task: Task) -> list[Stage]:
        """The trainings of a task that `begin_task` began, in place of the groups that it gave."""
        ...


class Backward(Protocol):
    """The gradients of a batch in training."""

    @property
    def labels(self) -> Tensor:
        """The labels (n,) of its images."""
        ...

    def __call__(self, places: Tensor | None = None) -> Tensor:
        """Gives what learns the gradients of a mean loss, in place of what it had as `grad`.

        The loss over the images at `places` (row numbers or flags, at least one; None: all) is
        returned. The images go through the network as all do: `optim.micro_batch` at once, and
        what they give is clipped to `optim.clip_norm`, each time anew.
        """
        ...


@runtime_checkable
class Updating(Protocol):
    """A method with an update rule of its own.

    What of `optim` cannot go with it, its config refuses by name (`UpdatingConfig.check_optim`).
    """

    def step(self, optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
        """Learns from a batch, in place of `backward()` and `optimizer.step()`; returns its loss.

        `backward` and `optimizer.step` may be called several times, the tensors that learn be
        changed in between. The rates in `optimizer.param_groups` are those of this batch: the
        schedule moves on once a batch, after it. A parameter whose `grad` is None is left alone by
        `optimizer.step`. Gradients are off inside but for those that `backward` takes.
        """
        ...


@dataclass(frozen=True)
class MethodContext:
    """What a method is built with beside its config; `diagnostics` says whether to measure.

    `task_sizes` are the classes of each of the `tasks`, where they are known.
    """

    model: AdaptedBackbone
    tasks: int
    device: torch.device
    generator: torch.Generator
    diagnostics: bool = True
    task_sizes: tuple[int, ...] = ()


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
    declared = catalog.declaration(config.method.name)
    known = layers_of(network)
    selected = selection.select(known, chosen.layers, chosen.blocks, declared.layers)
    adapt = chosen.adapt or declared.adapts
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
