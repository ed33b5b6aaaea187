"""Sequential LoRA: one branch, trained on through all tasks, without protection."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads, current_task_loss
from trainables.low_rank.lora import ContinuingLoRA
from trainables.low_rank.update_watch import UpdateWatch
from trainables.method import MethodContext, ParamGroup
from trainables.metrics import by_layer


@dataclass(frozen=True)
class SequentialLoRAConfig:
    """Field of sequential LoRA: `rank` r of the one branch on every slice."""

    name: str = "sequential_lora"
    rank: int = 10

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")


REFERENCE = "low-rank lower bound: one branch for all tasks, nothing protects old ones"
ADAPTS = ("q", "v")


def create(config: SequentialLoRAConfig, context: MethodContext) -> "SequentialLoRA":
    """Builds the method for a model."""
    return SequentialLoRA(config, context)


class SequentialLoRA:
    """W0 + up down, both factors trained on each task from where the last one left them."""

    trains_backbone = False

    def __init__(self, config: SequentialLoRAConfig, context: MethodContext) -> None:
        layers = context.model.layers
        self._heads = TaskHeads(context.model.width, context.device, context.generator)
        self._branch = ContinuingLoRA(layers, config.rank, context.generator)
        self._watch = UpdateWatch(layers, context.diagnostics, context.model.calls)

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains the branch and a new head."""
        factors = self._branch.parameters()
        self._watch.start(self._branch.deltas())
        head = self._heads.add(len(task.classes))
        return [ParamGroup("up", factors), ParamGroup("head", head)], {}

    def logits(self, features: Tensor) -> Tensor:
        """Scores over all classes seen."""
        return self._heads.logits(features)

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Cross-entropy over the current task's classes."""
        return current_task_loss(logits, labels, classes)

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Leaves the branch open; measures how this task's change of it disturbs old tasks."""
        disturbed = self._watch.finish(
            self._branch.deltas(), model.in_float32, train.plain(), len(train.data)
        )
        return by_layer("subspace/interference", disturbed) | {
            "memory/subspace_bytes": 0.0,
            "memory/branch_bytes": float(self._branch.bytes),
        }

    def state_dict(self) -> dict[str, Any]:
        """Heads, the open branch and moments of old tasks."""
        return {
            "heads": self._heads.state_dict(),
            "branch": self._branch.state_dict(),
            "old": self._watch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self._branch.load_state_dict(state["branch"])
        self._watch.load_state_dict(state["old"])
