"""Sequential full fine-tuning: the lower bound, nothing protects old tasks."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.method import MethodContext, ParamGroup


@dataclass(frozen=True)
class SequentialConfig:
    """Sequential fine-tuning has no fields of its own: its learning rate is optim.lr."""

    name: str = "sequential"

    def check(self, width: int) -> None:
        """Accepts every width."""


REFERENCE = "lower bound: the whole network is trained, nothing protects old tasks"
ADAPTS: tuple[str, ...] = ()


def create(config: SequentialConfig, context: MethodContext) -> "Sequential":
    """Builds the method for a model."""
    return Sequential(context)


class Sequential:
    """Trains every weight of the backbone on each task in turn, with the same heads and loss."""

    trains_backbone = True

    def __init__(self, context: MethodContext) -> None:
        self._heads = TaskHeads(context.model.width, context.device, context.generator)

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains the whole backbone and a new head."""
        head = self._heads.add(len(task.classes))
        return [ParamGroup("backbone", list(model.parameters())), ParamGroup("head", head)], {}

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
        """Heads; the weights are the model's."""
        return {"heads": self._heads.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
