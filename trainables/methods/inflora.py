"""InfLoRA (Liang & Li, CVPR 2024, arXiv 2404.00228): updates kept out of old tasks' subspace."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from trainables.alignment import ClassifierAlignment, features_of
from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.low_rank.down_init import STRATEGIES
from trainables.low_rank.dual_gpm import DualGPM
from trainables.low_rank.gradients import weight_gradients
from trainables.low_rank.layer_memories import LayerMemories
from trainables.low_rank.moments import second_moments
from trainables.low_rank.old_moments import OldMoments
from trainables.method import MethodContext, ParamGroup
from trainables.metrics import by_layer, counted


@dataclass(frozen=True)
class InfLoRAConfig:
    """Fields of InfLoRA; where paper and released code differ, PRESETS below say how.

    `rank` r of each branch; `epsilon` the share of spectral energy that the memory must hold
    at the first task, rising linearly to `epsilon_end` (ε_t, section 4.2). Of the memory: see
    `DualGPM` for `energy`, `dual`, `first_task` and `half_rule`, `LayerMemories` for
    `on_exhaustion`. Of `down`: `down_init` names one of `STRATEGIES`, `down_scale` multiplies its
    rows. `trained` says whether `up` learns, or the whole weight with its gradient projected on the
    span of `down` (`weight`): what the paper shows to be the same under plain gradient descent.
    `moment_images` says whether the two passes that take second moments see the task's
    images plain or augmented as in training. `align` turns classifier alignment on: over
    `align_epochs`, with `align_samples` features a class and a rate of `align_lr`. `head_norm`
    puts a layer normalisation without weights between the features and the heads.
    """

    name: str = "inflora"
    rank: int = 10
    epsilon: float = 0.95
    epsilon_end: float = 1.0
    energy: Literal["sigma4", "sigma2"] = "sigma4"
    dual: bool = True
    first_task: Literal["reach", "below"] = "reach"
    half_rule: Literal["complement", "mislabel"] = "complement"
    down_init: Literal[
        "designed",
        "gaussian",
        "orthonormal",
        "null_space_random",
        "principal",
        "null_space_smallest",
        "gradient",
    ] = "designed"
    down_scale: float = 1.0
    trained: Literal["up", "weight"] = "up"
    moment_images: Literal["plain", "augmented"] = "plain"
    on_exhaustion: Literal["clip", "freeze", "relax", "released"] = "clip"
    align: bool = False
    align_epochs: int = 5
    align_samples: int = 256
    align_lr: float = 0.01
    head_norm: bool = False

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold, and values out of range."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"method.epsilon must be in (0, 1], but got {self.epsilon}.")
        if not self.epsilon <= self.epsilon_end <= 1:
            raise ValueError(
                f"method.epsilon_end must be in [method.epsilon, 1] = [{self.epsilon}, 1], "
                f"but got {self.epsilon_end}."
            )
        for key in ("down_scale", "align_lr"):
            value = getattr(self, key)
            if not 0 < value < float("inf"):
                raise ValueError(f"method.{key} must be a finite number above 0, but got {value}.")
        for key in ("align_epochs", "align_samples"):
            if getattr(self, key) < 1:
                raise ValueError(f"method.{key} must be at least 1, but got {getattr(self, key)}.")


# "paper": eq. 8 with orthonormal rows; the threshold is a share of the inputs' own energy, and the
# first task's memory reaches it. The paper is silent about a memory that runs full, about more
# than half of the dimensions at once, and about augmentation in the two passes: there stands what
# its argument needs. "corrected": "released" without what is a bug and not a choice.
# fmt: off
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "method.energy": "sigma2", "method.first_task": "reach",
        "method.half_rule": "complement", "method.down_scale": 1.0,
        "method.moment_images": "plain", "method.on_exhaustion": "clip",
    },
    "released": {
        "method.energy": "sigma4", "method.first_task": "below",
        "method.half_rule": "mislabel", "method.down_scale": 0.5773502691896258,
        "method.moment_images": "augmented", "method.on_exhaustion": "released",
    },
    "corrected": {
        "method.energy": "sigma4", "method.first_task": "reach",
        "method.half_rule": "complement", "method.down_scale": 0.5773502691896258,
        "method.moment_images": "augmented", "method.on_exhaustion": "clip",
    },
}

# As in the released configuration files; a rate of None follows optim.lr.
RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("cifar100", None): {
        "method.rank": 10, "method.epsilon": 0.95, "seeds": (0, 1, 2, 3, 4),
        "optim.optimizer": "adam", "optim.lr": 5e-4, "optim.head_lr": None,
        "optim.weight_decay": 0.0, "optim.epochs": 20, "optim.batch_size": 128,
        "optim.schedule": "released_cosine", "data.class_order": "natural",
        "data.augmentation": "random_resized_crop", "data.crop_scale": 0.08,
    },
    ("imagenet_r", None): {
        "method.rank": 10, "method.epsilon": 0.98, "seeds": (0, 1, 2, 3, 4),
        "data.split": "random",
        "optim.optimizer": "adam", "optim.lr": 5e-4, "optim.head_lr": None,
        "optim.weight_decay": 0.0, "optim.epochs": 50, "optim.batch_size": 128,
        "optim.schedule": "released_cosine", "data.class_order": "natural",
        "data.augmentation": "random_resized_crop", "data.crop_scale": 0.08,
    },
    # Plain GPM here. The step's factor is that of the released file.
    ("domainnet", None): {
        "method.rank": 30, "method.epsilon": 0.95, "method.dual": False,
        "seeds": (0, 1, 2, 3, 4),
        "optim.optimizer": "sgd", "optim.lr": 5e-3, "optim.head_lr": 0.01,
        "optim.momentum": 0.9, "optim.weight_decay": 0.0, "optim.epochs": 5,
        "optim.batch_size": 128, "optim.schedule": "step", "optim.milestones": (4,),
        "optim.step_factor": 0.1, "data.class_order": "natural",
        "data.augmentation": "random_resized_crop", "data.crop_scale": 0.08,
    },
}
# fmt: on

ADAPTS = ("k", "v")

# Enough for the leading directions of a gradient; each batch costs a step of training.
GRADIENT_BATCHES = 4


def create(config: InfLoRAConfig, context: MethodContext) -> "InfLoRA":
    """Builds the method for a model and a number of tasks."""
    return InfLoRA(config, context)


def projector(rows: Tensor) -> Tensor:
    """The orthogonal projector (dim, dim) on the span of linearly independent rows (r, dim).

    As the `down` of a branch it makes `up` the change of the whole weight: the gradient by `up`
    is that by the weight, projected, and so is every step.
    """
    columns, _ = torch.linalg.qr(rows.T)
    onto: Tensor = columns @ columns.T
    return onto


class InfLoRA:
    """Designs `down` inside the free space, trains `up` and the head, merges, remembers."""

    trains_backbone = False

    def __init__(self, config: InfLoRAConfig, context: MethodContext) -> None:
        self._config = config
        self._context = context
        self._layers = context.model.layers
        device, generator = context.device, context.generator
        self._heads = TaskHeads(context.model.width, device, generator, config.head_norm)
        memories = {
            name: DualGPM(
                layer.in_features, config.energy, config.dual, config.first_task, config.half_rule
            )
            for name, layer in self._layers.items()
        }
        self._memories = LayerMemories(memories, config.rank, config.on_exhaustion)
        self._alignment = ClassifierAlignment(
            config.align_samples, config.align_epochs, config.align_lr, device, generator
        )
        self._old = OldMoments(context.diagnostics)

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Chooses `down`, by eq. 8 unless the config says otherwise; `up` and the head learn.

        A layer without a row gets no branch.
        """
        head = self._heads.add(len(task.classes))
        moments = self._moments(model, train)
        rows = self._memories.design(
            STRATEGIES[self._config.down_init],
            moments,
            self._gradients(model, task, train) if self._config.down_init == "gradient" else {},
            self._context.generator,
        )
        ups = []
        for name, layer in self._layers.items():
            down = rows[name] if self._config.trained == "up" else projector(rows[name])
            opened = layer.add_branch(len(down)) if len(rows[name]) else {}
            for branch in opened.values():
                with torch.no_grad():
                    branch.down.copy_(self._config.down_scale * down)
                ups.append(branch.up)
        recorded = by_layer("subspace/rank", {name: len(one) for name, one in rows.items()})
        recorded |= by_layer("subspace/new_energy_free", self._memories.free_energy(moments))
        if self._context.diagnostics:
            recorded |= by_layer("subspace/smallest_angle", self._memories.angles(rows))
        return [ParamGroup("up", ups), ParamGroup("head", head)], recorded

    def logits(self, features: Tensor) -> Tensor:
        """Scores over all classes seen."""
        return self._heads.logits(features)

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Cross-entropy over the current task's classes."""
        return current_task_loss(logits, labels, classes)

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Merges the branches and lets the memories absorb the task as the model now sees it."""
        disturbed = self._old.interference(
            {name: layer.delta().detach() for name, layer in self._layers.items()}
        )
        branch_bytes = sum(
            parameter.numel() * parameter.element_size()
            for layer in self._layers.values()
            for parameter in layer.branches.parameters()
        )
        for layer in self._layers.values():
            layer.merge()
        moments = self._moments(model, train)
        thresholds = self._memories.absorb(moments, self._threshold(task.index), task.index + 1)
        self._old.add(moments, len(train.data))
        if self._config.align:
            features = self._heads.prepared(features_of(model, train.plain()))
            self._alignment.remember(features, train.data.labels, task.classes)
            self._alignment.align(self._heads)
        free, used, exhausted = self._memories.dimensions()
        return (
            by_layer("subspace/dim_free", free)
            | by_layer("subspace/dim_used", used)
            | by_layer("subspace/threshold", thresholds)
            | by_layer("subspace/interference", disturbed)
            | counted("subspace/exhausted_layers", exhausted)
            | {
                "memory/subspace_bytes": float(self._memories.bytes + self._alignment.bytes),
                "memory/branch_bytes": float(branch_bytes),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads, subspace memories, class statistics and old moments."""
        return {
            "heads": self._heads.state_dict(),
            "memories": self._memories.state_dict(),
            "alignment": self._alignment.state_dict(),
            "old": self._old.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self._memories.load_state_dict(state["memories"])
        self._alignment.load_state_dict(state["alignment"])
        self._old.load_state_dict(state["old"])

    def _moments(self, model: AdaptedBackbone, train: TaskImages) -> dict[str, Tensor]:
        images = self._moment_images(train)
        return second_moments(model.in_float32, self._layers, images, model.calls)

    def _moment_images(self, train: TaskImages) -> Iterable[Tensor]:
        if self._config.moment_images == "plain":
            return train.plain()
        return (images for images, _ in train.shuffled())

    def _gradients(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> dict[str, Tensor]:
        """The loss gradient on the first batches, mixed over classes and not augmented."""
        batches = islice(replace(train, augmentation="none").shuffled(), GRADIENT_BATCHES)
        return weight_gradients(
            model.in_float32,
            self._layers,
            batches,
            lambda features, labels: self.loss(self.logits(features), labels, task.classes),
        )

    def _threshold(self, index: int) -> float:
        """ε_t = ε + (ε_end − ε) · t / T, with t counted from 0."""
        first, last = self._config.epsilon, self._config.epsilon_end
        return first + (last - first) * index / self._context.tasks
