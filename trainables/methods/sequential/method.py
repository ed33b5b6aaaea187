"""Sequential full fine-tuning: the lower bound, nothing protects old tasks."""

from typing import Any

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.method import MethodContext, ParamGroup
from trainables.methods.sequential.config import SequentialConfig


class Sequential:
    """Trains every weight of the backbone on each task in turn, with the same heads and loss."""

    trains_backbone = True
    loss = staticmethod(current_task_loss)

    def __init__(self, config: SequentialConfig, context: MethodContext) -> None:
        self._heads = TaskHeads(
            context.model.width, context.device, context.generator, config.head_init
        )
        self.logits = self._heads.logits

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains the whole backbone and a new head."""
        head = self._heads.add(len(task.classes))
        return [ParamGroup("backbone", list(model.parameters())), ParamGroup("head", head)], {}

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Nothing is consolidated."""
        return {"memory/subspace_bytes": 0.0, "memory/branch_bytes": 0.0}

    def state_dict(self) -> dict[str, Any]:
        """Heads; the weights are the model's."""
        return {"heads": self._heads.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])


create = Sequential
