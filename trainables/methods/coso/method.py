"""CoSO (Cheng et al., 2025, arXiv 2505.11816): gradients kept out of old tasks' gradients."""

import logging
from typing import Any

import torch
from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import Classifier
from trainables.low_rank.update_watch import UpdateWatch
from trainables.method import Backward, MethodContext, ParamGroup
from trainables.methods.coso.config import CoSOConfig
from trainables.methods.coso.space import GradientSpace
from trainables.metrics import by_layer, counted

logger = logging.getLogger(__name__)

# Below this share of a gradient's norm outside of the memory, what Adam scales up is what is left.
ALARM = 0.01


class CoSO:
    """Trains whole weights, each step in the leading directions of its projected gradient."""

    trains_backbone = False

    def __init__(self, config: CoSOConfig, context: MethodContext) -> None:
        self._config = config
        self._layers = context.model.layers
        self._heads = Classifier(
            config.head_fields, context.model.width, context.device, context.generator
        )
        self.logits, self.trained_logits = self._heads.logits, self._heads.trained_logits
        self._spaces = {
            name: GradientSpace(
                layer.rows(layer.weight).shape[0],
                config.rank,
                config.sketch,
                config.decay,
                config.every,
                config.moments == "rotated",
                config.orthonormal,
                config.on_exhaustion,
                context.device,
            )
            for name, layer in self._layers.items()
        }
        self._watch = UpdateWatch(self._layers, context.diagnostics, context.model.calls)
        self._warned: set[str] = set()

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Trains the adapted weights and a new head; sketches and moments start anew."""
        self._watch.start(self._rows())
        for space in self._spaces.values():
            space.start()
        weights = [layer.train_weight() for layer in self._layers.values()]
        head = self._heads.add(len(task.classes))
        return [ParamGroup("backbone", weights), ParamGroup("head", head)], {}

    def loss(self, logits: Tensor, labels: Tensor, classes: range) -> Tensor:
        """The head's loss, of logits over a temperature where they are no cosines."""
        if self._config.head not in ("cosine", "cosface"):
            logits = logits / self._config.temperature
        return self._heads.loss(logits, labels, classes)

    def step(self, optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
        """Moves each weight in its own space, and the head as `optimizer` does.

        The rule is that of `optimizer`, Adam's or gradient descent with its momentum. Weight decay
        is projected like the gradient that it is added to, for AdamW after the step.
        """
        loss = backward()
        group, late = optimizer.param_groups[0], isinstance(optimizer, torch.optim.AdamW)
        rate, decay = group["lr"], group["weight_decay"]
        for name, layer in self._layers.items():
            weight, space = layer.base.weight, self._spaces[name]
            assert weight.grad is not None
            gradient, weight.grad = layer.rows(weight.grad.flatten(1)), None
            if space.rests:
                continue
            now = layer.rows(layer.weight)
            if decay and not late:
                gradient = gradient + decay * now
            change = space.step(gradient, group.get("momentum"))
            if decay and late:
                change = change - decay * space.project(now)
            layer.write_rows(now + rate * change)
        optimizer.step()
        return loss

    @torch.no_grad()
    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Adds what leads the sketches to the memories."""
        left = {name: space.gradient_free() for name, space in self._spaces.items()}
        known = {name: share for name, share in left.items() if share is not None}
        for space in self._spaces.values():
            space.absorb(self._config.epsilon, self._config.taken == "reach")
        free = {name: float(space.free_dim) for name, space in self._spaces.items()}
        used = {name: space.dim - free[name] for name, space in self._spaces.items()}
        exhausted = {name: space.exhausted for name, space in self._spaces.items()}
        self._warn(known, exhausted, task.index + 1)
        disturbed = self._watch.finish(
            self._rows(), model.in_float32, train.plain(), len(train.data)
        )
        trained = sum(rows.nbytes for rows in self._rows().values())
        recorded = self._heads.end_task(model, train.plain(), train.data.labels, task.classes)
        kept = sum(space.memory.nbytes for space in self._spaces.values()) + self._heads.bytes
        return (
            recorded
            | by_layer("subspace/gradient_free", known)
            | by_layer("subspace/dim_free", free)
            | by_layer("subspace/dim_used", used)
            | by_layer("subspace/interference", disturbed)
            | counted("subspace/exhausted_layers", exhausted)
            | {
                "memory/subspace_bytes": float(kept),
                "memory/branch_bytes": float(trained),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads, memories, moments of old tasks and what was warned of; weights are the model's."""
        return {
            "heads": self._heads.state_dict(),
            "memories": {name: space.state_dict() for name, space in self._spaces.items()},
            "old": self._watch.state_dict(),
            "warned": sorted(self._warned),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self._watch.load_state_dict(state["old"])
        self._warned = set(state["warned"])
        for name, space in self._spaces.items():
            space.load_state_dict(state["memories"][name])

    def _rows(self) -> dict[str, Tensor]:
        """Copies of the adapted rows of each layer, (rows, in)."""
        return {
            name: layer.rows(layer.weight).detach().clone() for name, layer in self._layers.items()
        }

    def _warn(self, left: dict[str, float], exhausted: dict[str, bool], task: int) -> None:
        """Warns the first time in a trial of spaces that are exhausted, and of small gradients."""
        short = [name for name, full in exhausted.items() if full]
        if short and "exhausted" not in self._warned:
            self._warned.add("exhausted")
            logger.warning(
                "After task %d the memory of gradients leaves fewer than method.rank %d free "
                "directions in %s, or would if it took in all; method.on_exhaustion is %s. Later "
                "layers and tasks are counted in subspace/exhausted_layers only.",
                task,
                self._config.rank,
                ", ".join(short),
                self._config.on_exhaustion,
            )
        small = [name for name, share in left.items() if share < ALARM]
        if small and "gradient" not in self._warned:
            self._warned.add("gradient")
            logger.warning(
                "In task %d less than %g of the gradient's norm was left outside of the memory in "
                "%s, and Adam scales what is left up to whole steps. Later layers and tasks are "
                "seen in subspace/gradient_free only.",
                task,
                ALARM,
                ", ".join(small),
            )


create = CoSO
