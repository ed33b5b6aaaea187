"""InfLoRA (Liang & Li, CVPR 2024, arXiv 2404.00228): updates kept out of old tasks' subspace."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.low_rank.dual_gpm import DualGPM
from trainables.low_rank.moments import OldMoments, second_moments
from trainables.method import MethodContext, ParamGroup
from trainables.metrics import by_layer


@dataclass(frozen=True)
class InfLoRAConfig:
    """Fields of InfLoRA.

    `rank` r of each branch; `epsilon` the share of spectral energy that the memory must hold
    at the first task, rising linearly to `epsilon_end` (ε_t, section 4.2); `energy` counts
    σ² of the second moment ("sigma4" of the inputs, as released) or σ² of the inputs
    ("sigma2", as in the paper); `dual` stores the smaller of M and M⊥. Two differences from the
    released code: designed rows have norm 1 and not 1/√3, and the passes that take second
    moments see images without augmentation.
    """

    name: str = "inflora"
    rank: int = 10
    epsilon: float = 0.95
    epsilon_end: float = 1.0
    energy: Literal["sigma4", "sigma2"] = "sigma4"
    dual: bool = True

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold, and shares outside (0, 1]."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"method.epsilon must be in (0, 1], but got {self.epsilon}.")
        if not self.epsilon <= self.epsilon_end <= 1:
            raise ValueError(
                f"method.epsilon_end must be in [method.epsilon, 1] = [{self.epsilon}, 1], "
                f"but got {self.epsilon_end}."
            )


ADAPTS = ("k", "v")


def create(config: InfLoRAConfig, context: MethodContext) -> "InfLoRA":
    """Builds the method for a model and a number of tasks."""
    return InfLoRA(config, context)


class InfLoRA:
    """Designs `down` inside the free space, trains `up` and the head, merges, remembers."""

    trains_backbone = False

    def __init__(self, config: InfLoRAConfig, context: MethodContext) -> None:
        self._config = config
        self._tasks = context.tasks
        self._layers = context.model.layers
        self._heads = TaskHeads(context.model.width, context.device, context.generator)
        self._memories = {
            name: DualGPM(layer.in_features, config.energy, config.dual)
            for name, layer in self._layers.items()
        }
        self._old = OldMoments()

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Designs `down` from the task's second moment (eq. 8); `up` and the head are trained.

        A layer with fewer than r free directions gets just those; one with none gets no branch.
        """
        moments = second_moments(model, self._layers, train.plain())
        ups, ranks, free_energy = [], {}, {}
        for name, layer in self._layers.items():
            memory, moment = self._memories[name], moments[name].cpu()
            free_energy[name] = memory.free_energy_share(moment)
            down = memory.design(moment, self._config.rank)
            ranks[name] = float(down.shape[0])
            for branch in layer.add_branch(down.shape[0]).values():
                with torch.no_grad():
                    branch.down.copy_(down)
                ups.append(branch.up)
        groups = [ParamGroup("up", ups), ParamGroup("head", self._heads.add(len(task.classes)))]
        return groups, (
            by_layer("subspace/rank", ranks) | by_layer("subspace/new_energy_free", free_energy)
        )

    def logits(self, features: Tensor) -> Tensor:
        """Scores over all classes seen."""
        return self._heads.logits(features)

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Cross-entropy over the current task's classes."""
        return current_task_loss(logits, labels, classes)

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Merges the branches and lets the memories absorb the task as the model now sees it."""
        deltas = {name: layer.delta().detach() for name, layer in self._layers.items()}
        disturbed = self._old.interference(deltas)
        branch_bytes = sum(
            parameter.numel() * parameter.element_size()
            for layer in self._layers.values()
            for parameter in layer.branches.parameters()
        )
        for layer in self._layers.values():
            layer.merge()
        moments = second_moments(model, self._layers, train.plain())
        threshold = self._threshold(task.index)
        for name, memory in self._memories.items():
            memory.absorb(moments[name].cpu(), threshold)
        self._old.add(moments, len(train.data))
        free = {name: float(memory.free_dim) for name, memory in self._memories.items()}
        used = {name: memory.dim - free[name] for name, memory in self._memories.items()}
        return (
            by_layer("subspace/dim_free", free)
            | by_layer("subspace/dim_used", used)
            | by_layer("subspace/interference", disturbed)
            | {
                "subspace/threshold": threshold,
                "subspace/exhausted_layers": float(
                    sum(dim < self._config.rank for dim in free.values())
                ),
                "memory/subspace_bytes": float(sum(m.bytes for m in self._memories.values())),
                "memory/branch_bytes": float(branch_bytes),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads, subspace memories and old moments."""
        return {
            "heads": self._heads.state_dict(),
            "memories": {name: memory.state_dict() for name, memory in self._memories.items()},
            "old": self._old.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self._old.load_state_dict(state["old"])
        for name, memory in self._memories.items():
            memory.load_state_dict(state["memories"][name])

    def _threshold(self, index: int) -> float:
        """ε_t = ε + (ε_end − ε) · t / T, with t counted from 0."""
        first, last = self._config.epsilon, self._config.epsilon_end
        return first + (last - first) * index / self._tasks
