"""Frozen backbone and a linear head per task: what training the classifier alone gives."""

from typing import Any

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.method import MethodContext, ParamGroup
from trainables.methods.linear_heads.config import LinearHeadsConfig


class LinearHeads:
    """Trains each task's head on the pretrained features, with the usual loss."""

    trains_backbone = False
    loss = staticmethod(current_task_loss)

    def __init__(self, config: LinearHeadsConfig, context: MethodContext) -> None:
        self._heads = TaskHeads(
            context.model.width, context.device, context.generator, config.head_init
        )
        self.logits = self._heads.logits

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains a new head."""
        return [ParamGroup("head", self._heads.add(len(task.classes)))], {}

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Nothing is consolidated."""
        return {"memory/subspace_bytes": 0.0, "memory/branch_bytes": 0.0}

    def state_dict(self) -> dict[str, Any]:
        """Heads."""
        return {"heads": self._heads.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])


create = LinearHeads
