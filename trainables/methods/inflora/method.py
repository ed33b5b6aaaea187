"""InfLoRA (Liang & Li, CVPR 2024, arXiv 2404.00228): updates kept out of old tasks' subspace."""

from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import Classifier
from trainables.low_rank.down_init import STRATEGIES
from trainables.low_rank.dual_gpm import DualGPM
from trainables.low_rank.gradients import weight_gradients
from trainables.low_rank.layer_memories import LayerMemories
from trainables.low_rank.moments import second_moments
from trainables.low_rank.old_moments import OldMoments
from trainables.method import MethodContext, ParamGroup
from trainables.methods.inflora.config import InfLoRAConfig
from trainables.metrics import by_layer, counted

# Enough for the leading directions of a gradient; each batch costs a step of training.
GRADIENT_BATCHES = 4


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
        self._heads = Classifier(
            config.head_fields,
            context.model.width,
            context.device,
            context.generator,
            config.head_norm,
        )
        self.logits, self.trained_logits = self._heads.logits, self._heads.trained_logits
        self.loss = self._heads.loss
        memories = {
            name: DualGPM(
                layer.in_features, config.energy, config.dual, config.first_task, config.half_rule
            )
            for name, layer in self._layers.items()
        }
        self._memories = LayerMemories(memories, config.rank, config.on_exhaustion)
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
        recorded = by_layer("subspace/rank", {name: len(down) for name, down in rows.items()})
        recorded |= by_layer("subspace/new_energy_free", self._memories.free_energy(moments))
        if self._context.diagnostics:
            recorded |= by_layer("subspace/smallest_angle", self._memories.angles(rows))
        return [ParamGroup("up", ups), ParamGroup("head", head)], recorded

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Merges the branches and lets the memories absorb the task as the model now sees it."""
        disturbed = self._old.interference(
            {name: layer.delta().detach() for name, layer in self._layers.items()}
        )
        branch_bytes = sum(
            parameter.nbytes
            for layer in self._layers.values()
            for parameter in layer.branches.parameters()
        )
        for layer in self._layers.values():
            layer.merge()
        moments = self._moments(model, train)
        thresholds = self._memories.absorb(moments, self._threshold(task.index), task.index + 1)
        self._old.add(moments, len(train.data))
        recorded = self._heads.end_task(model, train.plain(), train.data.labels, task.classes)
        free, used, exhausted = self._memories.dimensions()
        return (
            recorded
            | by_layer("subspace/dim_free", free)
            | by_layer("subspace/dim_used", used)
            | by_layer("subspace/threshold", thresholds)
            | by_layer("subspace/interference", disturbed)
            | counted("subspace/exhausted_layers", exhausted)
            | {
                "memory/subspace_bytes": float(self._memories.bytes + self._heads.bytes),
                "memory/branch_bytes": float(branch_bytes),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads with what they keep of classes, subspace memories and old moments."""
        return {
            "heads": self._heads.state_dict(),
            "memories": self._memories.state_dict(),
            "old": self._old.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        # Earlier releases kept the statistics of classes beside the heads.
        beside = {"alignment": state["alignment"]} if "alignment" in state else {}
        self._heads.load_state_dict(beside | state["heads"])
        self._memories.load_state_dict(state["memories"])
        self._old.load_state_dict(state["old"])

    def _moments(self, model: AdaptedBackbone, train: TaskImages) -> dict[str, Tensor]:
        images = train.seen_as(self._config.moment_images)
        return second_moments(model.in_float32, self._layers, images, model.calls)

    def _gradients(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> dict[str, Tensor]:
        """The loss gradient on the first batches, mixed over classes and not augmented."""
        batches = islice(replace(train, augmentation="none").shuffled(), GRADIENT_BATCHES)
        return weight_gradients(
            model.in_float32,
            self._layers,
            batches,
            lambda features, labels: self.loss(self.trained_logits(features), labels, task.classes),
        )

    def _threshold(self, index: int) -> float:
        """ε_t = ε + (ε_end − ε) · t / T, with t counted from 0."""
        first, last = self._config.epsilon, self._config.epsilon_end
        return first + (last - first) * index / self._context.tasks


create = InfLoRA
