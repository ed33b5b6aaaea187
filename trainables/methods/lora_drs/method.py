"""LoRA-DRS (Liu & Chang, CVPR 2025, arXiv 2503.18985): updates in a drift-resistant space."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import Classifier, ClassMeans, features_of
from trainables.low_rank.lora import open_lora
from trainables.low_rank.moments import second_moments
from trainables.low_rank.update_watch import UpdateWatch
from trainables.method import Backward, MethodContext, ParamGroup
from trainables.methods.lora_drs.config import LoRADRSConfig
from trainables.methods.lora_drs.space import Projected, drift_resistant
from trainables.methods.lora_drs.triplet import triplet_loss
from trainables.metrics import by_layer, counted

logger = logging.getLogger(__name__)

# Of the numbers that `up` starts with, as in torch's sparse start.
DEVIATION = 0.01


class LoRADRS:
    """A new branch a task, moved inside what inputs span once old branches are taken off again.

    Finished branches are merged. The pretrained rows W0 are kept: with them 2 W0 − W is the weight
    that old branches are subtracted from, once more than they were added.
    """

    trains_backbone = False

    def __init__(self, config: LoRADRSConfig, context: MethodContext) -> None:
        self._config = config
        self._context = context
        self._layers = context.model.layers
        self._heads = Classifier(
            config.head_fields, context.model.width, context.device, context.generator
        )
        self.logits, self.trained_logits = self._heads.logits, self._heads.trained_logits
        self.loss = self._heads.loss
        # Those of the head, where it is of class means.
        fitted = self._heads.fitted
        self._own_means = not isinstance(fitted, ClassMeans) and config.triplet > 0
        self._means = (
            fitted
            if isinstance(fitted, ClassMeans)
            else ClassMeans(context.model.width, config.head_metric, context.device)
        )
        self._pretrained = {
            name: layer.rows(layer.weight).detach().clone() for name, layer in self._layers.items()
        }
        self._watch = UpdateWatch(self._layers, context.diagnostics, context.model.calls)
        self._warned = False
        # Of the task that is trained: by layer, and of each tensor that learns inside of one.
        self._spaces: dict[str, Projected] = {}

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Finds the space from the second task on; trains both factors of a branch, and a head."""
        if task.index:
            self._find_spaces(model, train)
        recorded = self._room(task.index + 1)
        self._watch.start({})
        factors: list[nn.Parameter] = []
        for layer in self._layers.values():
            for branch in open_lora(layer, self._config.rank, self._context.generator).values():
                if self._config.up_init == "sparse":
                    _start_sparse(branch.up, self._context.generator)
                factors += [branch.up, branch.down]
        head = self._heads.add(len(task.classes))
        return [ParamGroup("up", factors), ParamGroup("head", head)], recorded

    def penalty(self, features: Tensor, labels: Tensor) -> Tensor:
        """The triplet loss, with the class means of old tasks."""
        if not self._config.triplet:
            return features.new_zeros(())
        far = triplet_loss(features, labels, self._means.means, self._config.margin)
        return self._config.triplet * far

    def step(self, optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
        """Projects what the optimizer makes of each factor; its moments see whole gradients."""
        loss = backward()
        before = [(factor, factor.clone(), project) for factor, project in self._projections()]
        optimizer.step()
        for factor, start, project in before:
            factor.copy_(start + project(factor - start))
        return loss

    @torch.no_grad()
    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Merges the branches, then takes what is kept of the new classes."""
        deltas = {name: layer.rows(layer.delta()).detach() for name, layer in self._layers.items()}
        held = sum(space.basis.nbytes for space in self._spaces.values())
        self._spaces = {}
        for layer in self._layers.values():
            layer.merge()
        disturbed = self._watch.finish(deltas, model.in_float32, train.plain(), len(train.data))
        recorded = self._heads.end_task(model, train.plain(), train.data.labels, task.classes)
        kept = held + self._heads.bytes
        if self._own_means:
            features = features_of(model, train.plain())
            self._means.fit(features, train.data.labels, task.classes)
            kept += self._means.bytes
        pretrained = sum(rows.nbytes for rows in self._pretrained.values())
        return (
            recorded
            | by_layer("subspace/interference", disturbed)
            | {
                "memory/subspace_bytes": float(kept),
                "memory/branch_bytes": float(pretrained),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads, class means, moments of old tasks, and whether it was warned."""
        return {
            "heads": self._heads.state_dict(),
            "means": self._means.state_dict() if self._own_means else {},
            "old": self._watch.state_dict(),
            "warned": self._warned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        if self._own_means:
            self._means.load_state_dict(state["means"])
        self._watch.load_state_dict(state["old"])
        self._warned = state["warned"]

    def _find_spaces(self, model: AdaptedBackbone, train: TaskImages) -> None:
        """Takes the moments of inputs without the updates of old branches, and what leads them."""
        images = train.seen_as(self._config.moment_images)
        with self._subtracted():
            moments = second_moments(model.in_float32, self._layers, images, model.calls)
        for name, layer in self._layers.items():
            basis = drift_resistant(moments[name], self._config.share)
            self._spaces[name] = Projected(basis.to(layer.weight), self._config.scaled)

    def _room(self, task: int) -> dict[str, float]:
        """Directions in which branches may move: all of them in the first task."""
        dims = {name: layer.in_features for name, layer in self._layers.items()}
        inside = dims | {name: space.basis.shape[1] for name, space in self._spaces.items()}
        outside = {name: dim - inside[name] for name, dim in dims.items()}
        exhausted = {name: k < self._config.rank for name, k in inside.items()}
        short = [name for name, flag in exhausted.items() if flag]
        if short and not self._warned:
            self._warned = True
            logger.warning(
                "In task %d the drift-resistant space has fewer than method.rank %d directions in "
                "%s: branches have less room there than they could use. Later layers and tasks are "
                "counted in subspace/exhausted_layers only.",
                task,
                self._config.rank,
                ", ".join(short),
            )
        return (
            by_layer("subspace/dim_free", inside)
            | by_layer("subspace/dim_used", outside)
            | counted("subspace/exhausted_layers", exhausted)
        )

    @contextmanager
    def _subtracted(self) -> Iterator[None]:
        """Inside, the weights are W0 less the updates of old branches."""
        now = {
            name: layer.rows(layer.weight).detach().clone() for name, layer in self._layers.items()
        }
        try:
            for name, layer in self._layers.items():
                layer.write_rows(2 * self._pretrained[name] - now[name])
            yield
        finally:
            for name, layer in self._layers.items():
                layer.write_rows(now[name])

    def _projections(self) -> Iterator[tuple[nn.Parameter, Callable[[Tensor], Tensor]]]:
        """The factors that move inside of a space, each with what puts an update there."""
        for name, space in self._spaces.items():
            for part in self._layers[name].branches:
                branch = self._layers[name].branch_of(part)
                yield branch.down, space.right
                if self._config.up_side == "inputs":
                    yield branch.up, space.left


def _start_sparse(up: nn.Parameter, generator: torch.Generator) -> None:
    """Draws one number of each column of `up` (out, rank), at a random place."""
    outputs, rank = up.shape
    places = torch.randint(outputs, (rank,), generator=generator)
    values = DEVIATION * torch.randn(rank, generator=generator)
    with torch.no_grad():
        up[places.to(up.device), torch.arange(rank, device=up.device)] = values.to(up)


create = LoRADRS
