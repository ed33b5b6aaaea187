"""Frozen backbone and a linear head per task: what training the classifier alone gives."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.method import MethodContext, ParamGroup


@dataclass(frozen=True)
class LinearHeadsConfig:
    """Linear heads have no fields of their own: their learning rate is optim.head_lr."""

    name: str = "linear_heads"

    def check(self, width: int) -> None:
        """Accepts every width."""


REFERENCE = "frozen backbone: only the heads are trained"
ADAPTS: tuple[str, ...] = ()


def create(config: LinearHeadsConfig, context: MethodContext) -> "LinearHeads":
    """Builds the method for a model."""
    return LinearHeads(context)


class LinearHeads:
    """Trains each task's head on the pretrained features, with the usual loss."""

    trains_backbone = False

    def __init__(self, context: MethodContext) -> None:
        self._heads = TaskHeads(context.model.width, context.device, context.generator)

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains a new head."""
        return [ParamGroup("head", self._heads.add(len(task.classes)))], {}

    def logits(self, features: Tensor) -> Tensor:
        """Scores over all classes seen."""
        return self._heads.logits(features)

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Cross-entropy over the current task's classes."""
        return current_task_loss(logits, labels, classes)

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Nothing is consolidated."""
        return {"memory/subspace_bytes": 0.0, "memory/branch_bytes": 0.0}

    def state_dict(self) -> dict[str, Any]:
        """Heads."""
        return {"heads": self._heads.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
