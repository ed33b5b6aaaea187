"""Sequential LoRA: one branch, trained on through all tasks, without protection."""

from typing import Any

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import Classifier
from trainables.low_rank.lora import ContinuingLoRA
from trainables.low_rank.update_watch import UpdateWatch
from trainables.method import MethodContext, ParamGroup
from trainables.methods.sequential_lora.config import SequentialLoRAConfig
from trainables.metrics import by_layer


class SequentialLoRA:
    """W0 + up down, both factors trained on each task from where the last one left them."""

    trains_backbone = False

    def __init__(self, config: SequentialLoRAConfig, context: MethodContext) -> None:
        layers = context.model.layers
        self.heads = Classifier(
            config.head_fields, context.model.width, context.device, context.generator
        )
        self.logits, self.trained_logits = self.heads.logits, self.heads.trained_logits
        self.loss = self.heads.loss
        self.branch = ContinuingLoRA(layers, config.rank, context.generator)
        self.watch = UpdateWatch(layers, context.diagnostics, context.model.calls)

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains the branch and a new head."""
        factors = self.branch.parameters()
        self.watch.start(self.branch.deltas())
        head = self.heads.add(len(task.classes))
        return [ParamGroup("up", factors), ParamGroup("head", head)], {}

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Leaves the branch open; measures how this task's change of it disturbs old tasks."""
        disturbed = self.watch.finish(
            self.branch.deltas(), model.in_float32, train.plain(), len(train.data)
        )
        recorded = self.heads.end_task(model, train.plain(), train.data.labels, task.classes)
        return (
            recorded
            | by_layer("subspace/interference", disturbed)
            | {
                "memory/subspace_bytes": float(self.heads.bytes),
                "memory/branch_bytes": float(self.branch.bytes),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads, the open branch and moments of old tasks."""
        return {
            "heads": self.heads.state_dict(),
            "branch": self.branch.state_dict(),
            "old": self.watch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.heads.load_state_dict(state["heads"])
        self.branch.load_state_dict(state["branch"])
        self.watch.load_state_dict(state["old"])


create = SequentialLoRA
