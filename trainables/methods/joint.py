"""Joint training: the upper bound, which keeps the images of all tasks seen and trains on them."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import TaskHeads
from trainables.low_rank.lora import ContinuingLoRA
from trainables.low_rank.update_watch import UpdateWatch
from trainables.method import MethodContext, ParamGroup
from trainables.metrics import by_layer


@dataclass(frozen=True)
class JointConfig:
    """Fields of joint training.

    `budget` "task" spends on a task what every other method does: an epoch draws as many of all
    images seen as the new task brought; with "cumulative" it goes over all of them. `trains`
    one low-rank branch of `rank` per slice, which goes on through all tasks, or every weight of
    the backbone.
    """

    name: str = "joint"
    budget: Literal["task", "cumulative"] = "task"
    trains: Literal["branches", "backbone"] = "branches"
    rank: int = 10

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")


REFERENCE = "upper bound: trains on the images of all tasks seen"
ADAPTS = ("q", "v")


def create(config: JointConfig, context: MethodContext) -> "Joint":
    """Builds the method for a model."""
    return Joint(config, context)


class Joint:
    """Goes on training branch or backbone and all heads, on images of every task seen so far."""

    def __init__(self, config: JointConfig, context: MethodContext) -> None:
        layers = context.model.layers
        self.trains_backbone = config.trains == "backbone"
        self._budget = config.budget
        self._heads = TaskHeads(context.model.width, context.device, context.generator)
        self._branch = ContinuingLoRA(layers, config.rank, context.generator)
        watched = context.diagnostics and not self.trains_backbone
        self._watch = UpdateWatch(layers, watched, context.model.calls)

    def epoch_images(self, new: int, seen: int) -> int:
        """As many as the task brought, or all that were seen."""
        return new if self._budget == "task" else seen

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains what the config says and the heads of all tasks."""
        self._heads.add(len(task.classes))
        head = ParamGroup("head", self._heads.parameters())
        if self.trains_backbone:
            return [ParamGroup("backbone", list(model.parameters())), head], {}
        factors = self._branch.parameters()
        self._watch.start(self._branch.deltas())
        return [ParamGroup("up", factors), head], {}

    def logits(self, features: Tensor) -> Tensor:
        """Scores over all classes seen."""
        return self._heads.logits(features)

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """Cross-entropy over all classes seen: the images are of all of them."""
        return functional.cross_entropy(logits, labels)

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Leaves everything open; measures how this task's change disturbs old tasks."""
        disturbed = self._watch.finish(
            self._branch.deltas(), model.in_float32, train.plain(), len(train.data)
        )
        return by_layer("subspace/interference", disturbed) | {
            "memory/subspace_bytes": 0.0,
            "memory/branch_bytes": float(self._branch.bytes),
        }

    def state_dict(self) -> dict[str, Any]:
        """Heads, the open branch and moments of old tasks; a trained backbone is the model's."""
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
