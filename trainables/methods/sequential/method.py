"""Sequential full fine-tuning: nothing protects old tasks."""

from typing import Any

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import Classifier
from trainables.method import MethodContext, ParamGroup
from trainables.methods.sequential.config import SequentialConfig


class Sequential:
    """Trains every weight of the backbone on each task in turn, with the same heads and loss."""

    trains_backbone = True

    def __init__(self, config: SequentialConfig, context: MethodContext) -> None:
        self._heads = Classifier(
            config.head_fields, context.model.width, context.device, context.generator
        )
        self.logits, self.trained_logits = self._heads.logits, self._heads.trained_logits
        self.loss = self._heads.loss

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains the whole backbone and a new head."""
        head = self._heads.add(len(task.classes))
        return [ParamGroup("backbone", list(model.parameters())), ParamGroup("head", head)], {}

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Consolidates nothing but what the head keeps of classes."""
        recorded = self._heads.end_task(model, train.plain(), train.data.labels, task.classes)
        return recorded | {
            "memory/subspace_bytes": float(self._heads.bytes),
            "memory/branch_bytes": 0.0,
        }

    def state_dict(self) -> dict[str, Any]:
        """Heads; the weights are the model's."""
        return {"heads": self._heads.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])


create = Sequential
