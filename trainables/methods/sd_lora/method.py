"""SD-LoRA (Wu et al., ICLR 2025, arXiv 2501.13198): old directions frozen, magnitudes trained."""

from typing import Any

from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import Classifier
from trainables.low_rank.alpha_scope import alpha_scopes
from trainables.low_rank.lora import open_lora
from trainables.low_rank.update_watch import UpdateWatch
from trainables.method import MethodContext, ParamGroup
from trainables.methods.sd_lora import direction_metrics
from trainables.methods.sd_lora.config import SDLoRAConfig
from trainables.metrics import by_layer


class SDLoRA:
    """W0 + Σ_{k<t} α_k unit(up_k down_k) + α_t up_t down_t, all α and the new pair trained."""

    trains_backbone = False

    def __init__(self, config: SDLoRAConfig, context: MethodContext) -> None:
        self._config = config
        self._generator = context.generator
        self._layers = context.model.layers
        self._scopes = alpha_scopes(self._layers, config.alpha_scope)
        self._heads = Classifier(
            config.head_fields, context.model.width, context.device, context.generator
        )
        self.logits, self.trained_logits = self._heads.logits, self._heads.trained_logits
        self.loss = self._heads.loss
        self._diagnostics = context.diagnostics
        self._watch = UpdateWatch(self._layers, context.diagnostics, context.model.calls)

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Opens a new pair on every slice; old pairs keep their directions.

        What a reset of α changes counts as interference: it is measured from before it.
        """
        rank = self._config.rank_of(task.index + 1)
        if self._diagnostics:
            self._watch.start(self._deltas())
        pairs = []
        for layer in self._layers.values():
            for branch in open_lora(layer, rank, self._generator).values():
                pairs += [branch.up, branch.down]
        initial, reset = self._config.alpha_init, self._config.alpha_reset
        magnitudes = [alpha for scope in self._scopes for alpha in scope.open(initial, reset)]
        head = self._heads.add(len(task.classes))
        return [
            ParamGroup("up", pairs),
            ParamGroup("alpha", magnitudes),
            ParamGroup("head", head),
        ], {"subspace/rank": float(rank)}

    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Makes the new pair an old direction, or folds it into old ones; measures both."""
        diagnosed = direction_metrics.similarities(self._layers) if self._diagnostics else {}
        for scope in self._scopes:
            scope.close(task.index + 1, self._config.normaliser, self._config.tau)
        if self._diagnostics:
            disturbed = self._watch.finish(
                self._deltas(), model.in_float32, train.plain(), len(train.data)
            )
            diagnosed |= by_layer("subspace/interference", disturbed)
        recorded = self._heads.end_task(model, train.plain(), train.data.labels, task.classes)
        stacks = [stack for scope in self._scopes for stack in scope.stacks]
        return (
            recorded
            | diagnosed
            | direction_metrics.spans(self._layers, self._config.rank_of(task.index + 1))
            | direction_metrics.magnitudes(stacks)
            | {
                "memory/subspace_bytes": float(self._heads.bytes),
                "memory/branch_bytes": direction_metrics.branch_bytes(stacks),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads and old moments; directions and magnitudes are the model's."""
        return {"heads": self._heads.state_dict(), "old": self._watch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self._watch.load_state_dict(state["old"])

    def _deltas(self) -> dict[str, Tensor]:
        return {name: layer.delta().detach() for name, layer in self._layers.items()}


create = SDLoRA
