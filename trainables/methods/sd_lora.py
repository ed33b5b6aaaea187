"""SD-LoRA (Wu et al., ICLR 2025, arXiv 2501.13198): old directions frozen, magnitudes trained."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.moments import OldMoments, second_moments
from trainables.method import MethodContext, ParamGroup
from trainables.metrics import by_layer


@dataclass(frozen=True)
class SDLoRAConfig:
    """Fields of SD-LoRA: `rank` r of each direction, `alpha_init` the first magnitude α_t.

    There is one α per direction, layer and slice; it is carried over to later tasks, and an old
    pair is normalised by ‖up down‖_F, both as the paper has it.
    """

    name: str = "sd_lora"
    rank: int = 10
    alpha_init: float = 0.8

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold, or a magnitude of 0."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")
        if not 0 < self.alpha_init < float("inf"):
            raise ValueError(
                f"method.alpha_init must be a finite number above 0, but got {self.alpha_init}."
            )


ADAPTS = ("q", "v")

# Directions whose share of the strongest is below this come from rounding.
SPAN_TOLERANCE = 1e-10


def create(config: SDLoRAConfig, context: MethodContext) -> "SDLoRA":
    """Builds the method for a model."""
    return SDLoRA(config, context)


class SDLoRA:
    """W0 + Σ_{k<t} α_k unit(up_k down_k) + α_t up_t down_t, all α and the new pair trained."""

    trains_backbone = False

    def __init__(self, config: SDLoRAConfig, context: MethodContext) -> None:
        self._config = config
        self._generator = context.generator
        self._layers = context.model.layers
        self._heads = TaskHeads(context.model.width, context.device, context.generator)
        self._old = OldMoments()
        self._before: dict[str, Tensor] = {}

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Opens a new pair on every slice; old pairs keep their directions."""
        pairs, magnitudes = [], []
        for name, layer in self._layers.items():
            self._before[name] = layer.delta().detach()
            for branch in layer.add_branch(self._config.rank).values():
                # As usual for LoRA: uniform with the bound 1/√in of Kaiming's a = √5.
                bound = layer.in_features**-0.5
                start = torch.empty(branch.down.shape)
                start.uniform_(-bound, bound, generator=self._generator)
                with torch.no_grad():
                    branch.down.copy_(start)
                    branch.magnitude.fill_(self._config.alpha_init)
                pairs += [branch.up, branch.down]
                magnitudes.append(branch.magnitude)
            magnitudes += [layer.stack_of(slice_name).alpha for slice_name in layer.stacks]
        head = self._heads.add(len(task.classes))
        return [
            ParamGroup("up", pairs),
            ParamGroup("alpha", magnitudes),
            ParamGroup("head", head),
        ], {}

    def logits(self, features: Tensor) -> Tensor:
        """Scores over all classes seen."""
        return self._heads.logits(features)

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Cross-entropy over the current task's classes."""
        return current_task_loss(logits, labels, classes)

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Freezes the new pair as a unit direction and records magnitudes and subspaces.

        The free dimension of a layer is that of the inputs which no direction reads: SD-LoRA
        does not protect it, so that running out says how much directions overlap.
        """
        moved = {
            name: layer.delta().detach() - self._before[name]
            for name, layer in self._layers.items()
        }
        disturbed = self._old.interference(moved)
        for layer in self._layers.values():
            layer.stack()
        self._before.clear()
        self._old.add(second_moments(model, self._layers, train.plain()), len(train.data))
        used = {name: float(_span(layer)) for name, layer in self._layers.items()}
        free = {name: layer.in_features - used[name] for name, layer in self._layers.items()}
        return (
            by_layer("subspace/dim_free", free)
            | by_layer("subspace/dim_used", used)
            | by_layer("subspace/interference", disturbed)
            | self._magnitudes()
            | {
                "subspace/exhausted_layers": float(
                    sum(dim < self._config.rank for dim in free.values())
                ),
                "memory/subspace_bytes": 0.0,
                "memory/branch_bytes": float(
                    sum(
                        tensor.numel() * tensor.element_size()
                        for layer in self._layers.values()
                        for tensor in layer.stacks.state_dict().values()
                    )
                ),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads and old moments; directions and magnitudes are the model's."""
        return {"heads": self._heads.state_dict(), "old": self._old.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self._old.load_state_dict(state["old"])

    def _magnitudes(self) -> dict[str, float]:
        """alpha/task_XX: α of each direction, mean over layers and slices."""
        alphas = torch.stack(
            [
                layer.stack_of(name).alpha.detach()
                for layer in self._layers.values()
                for name in layer.stacks
            ]
        ).mean(0)
        return {f"alpha/task_{k:02d}": float(alpha) for k, alpha in enumerate(alphas, start=1)}


def _span(layer: LowRankLinear) -> int:
    """Dimension of the inputs that the directions of all slices read."""
    down = torch.cat([layer.stack_of(name).down for name in layer.stacks]).double()
    energies = torch.linalg.eigvalsh(down.T @ down)
    return int((energies > SPAN_TOLERANCE * energies.max()).sum())
