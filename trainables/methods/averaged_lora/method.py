"""A LoRA branch per task, each trained from the pretrained weight, merged by averaging."""

from typing import Any

import torch

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import Classifier
from trainables.low_rank.lora import open_lora
from trainables.low_rank.pretrained import PretrainedRows, whole
from trainables.low_rank.update_watch import UpdateWatch
from trainables.method import MethodContext, ParamGroup
from trainables.methods.averaged_lora.config import AveragedLoRAConfig
from trainables.metrics import by_layer


class AveragedLoRA:
    """W0 + (1/t) Σ_{k≤t} up_k down_k; each pair is trained on W0 alone, without the others.

    The mean is kept as one matrix per slice: the factors would grow with the number of tasks.
    """

    trains_backbone = False

    def __init__(self, config: AveragedLoRAConfig, context: MethodContext) -> None:
        self._rank = config.rank
        self._generator = context.generator
        self._layers = context.model.layers
        self._heads = Classifier(
            config.head_fields, context.model.width, context.device, context.generator
        )
        self.logits, self.trained_logits = self._heads.logits, self._heads.trained_logits
        self.loss = self._heads.loss
        self._watch = UpdateWatch(self._layers, context.diagnostics, context.model.calls)
        self._pretrained = PretrainedRows(self._layers)
        self._mean = {
            name: {part: torch.zeros_like(weight) for part, weight in slices.items()}
            for name, slices in self._pretrained.rows.items()
        }
        self._tasks = 0

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Goes back to the pretrained weight; trains a fresh branch and a new head."""
        self._watch.start(whole(self._mean))
        self._pretrained.write({})
        factors = [
            factor
            for layer in self._layers.values()
            for branch in open_lora(layer, self._rank, self._generator).values()
            for factor in (branch.up, branch.down)
        ]
        head = self._heads.add(len(task.classes))
        return [ParamGroup("up", factors), ParamGroup("head", head)], {}

    @torch.no_grad()
    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Takes the new pair into the mean and puts that into the weight.

        The interference is that of the mean's change, which is what old tasks feel.
        """
        self._tasks += 1
        for name, layer in self._layers.items():
            for part in layer.branches:
                mean = self._mean[name][part]
                mean += (layer.branch_of(part).delta() - mean) / self._tasks
            layer.branches.clear()
        self._pretrained.write(self._mean)
        disturbed = self._watch.finish(
            whole(self._mean), model.in_float32, train.plain(), len(train.data)
        )
        recorded = self._heads.end_task(model, train.plain(), train.data.labels, task.classes)
        return (
            recorded
            | by_layer("subspace/interference", disturbed)
            | {
                "memory/subspace_bytes": float(self._heads.bytes),
                "memory/branch_bytes": float(
                    sum(mean.nbytes for slices in self._mean.values() for mean in slices.values())
                ),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads, the mean update, how many tasks it is of, and moments of old tasks."""
        return {
            "heads": self._heads.state_dict(),
            "mean": {
                name: {part: mean.clone() for part, mean in slices.items()}
                for name, slices in self._mean.items()
            },
            "tasks": self._tasks,
            "old": self._watch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self._watch.load_state_dict(state["old"])
        self._tasks = state["tasks"]
        for name, slices in self._mean.items():
            for part, mean in slices.items():
                mean.copy_(state["mean"][name][part])
        self._pretrained.write(self._mean)


create = AveragedLoRA
