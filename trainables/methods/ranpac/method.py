"""RanPAC (McDonnell et al., NeurIPS 2023, arXiv 2307.02251): ridge regression, random features."""

from typing import Any

from torch import nn

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.frozen import plain_features
from trainables.heads import Classifier
from trainables.low_rank.lora import open_lora
from trainables.method import MethodContext, ParamGroup
from trainables.methods.ranpac.config import RanPACConfig


class RanPAC:
    """Trains a branch on the first task and merges it; later tasks only add to a regression.

    Nothing but the head grows, by a column a class, and the order of tasks matters by the first
    one and by λ alone.
    """

    trains_backbone = False

    def __init__(self, config: RanPACConfig, context: MethodContext) -> None:
        self._config = config
        self._generator = context.generator
        self._layers = context.model.layers
        width, device = context.model.width, context.device
        self._heads = Classifier(config.head, width, device, context.generator)
        self.logits, self.trained_logits = self._heads.logits, self._heads.trained_logits
        self.loss = self._heads.loss

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains a branch and a head on the first task, and nothing on later ones."""
        if task.index or self._config.tuning == "none":
            return [], {}
        factors = [
            factor
            for layer in self._layers.values()
            for branch in open_lora(layer, self._config.rank, self._generator).values()
            for factor in (branch.up, branch.down)
        ]
        head = self._heads.add(len(task.classes))
        return [ParamGroup("up", factors), ParamGroup("head", head)], {}

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Merges the branch, if there is one, and adds the task's images to the regression."""
        branches = [layer.branches for layer in self._layers.values()]
        held = sum(factor.nbytes for own in branches for factor in own.parameters())
        for layer in self._layers.values():
            if layer.branches:
                layer.merge()
        features = plain_features(model, train)
        given = (nn.Identity(), [features], train.data.labels, task.classes)
        recorded = self._heads.end_task(*given)
        return recorded | {
            "memory/subspace_bytes": float(self._heads.bytes),
            "memory/branch_bytes": float(held),
        }

    def state_dict(self) -> dict[str, Any]:
        """What the regression is summed up of; the merged branch is the model's."""
        return {"heads": self._heads.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])


create = RanPAC
