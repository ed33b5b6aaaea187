"""E2-LoRA (arXiv 2605.27482): each task learns on outputs that old tasks need least."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.backbones.adapted import AdaptedBackbone
from trainables.backbones.inspection import final_norm
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import Classifier
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.lora import open_lora
from trainables.low_rank.moments import second_moments
from trainables.low_rank.pretrained import PretrainedRows, whole
from trainables.low_rank.update_watch import UpdateWatch
from trainables.method import MethodContext, ParamGroup, Scored, Stage
from trainables.methods.e2_lora.config import E2LoRAConfig
from trainables.methods.e2_lora.pairs import OutputPairs, Room
from trainables.metrics import by_layer, counted


def distillation(scores: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL of softmax(`teacher` / T) and softmax(`scores` / T), both (n, classes); the mean.

    0 for fewer than two classes.
    """
    told = functional.log_softmax(scores / temperature, dim=1)
    meant = functional.softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(told, meant, reduction="batchmean")


class E2LoRA:
    """W0 + Σ up_k down_k; `up` of a new pair are the outputs that old pairs gave up, frozen.

    The first pair has as many ranks as outputs and learns whole; of later ones `down` learns. What
    old pairs add is written into the frozen rows, once a task.
    """

    trains_backbone = False
    more_epochs = 0

    def __init__(self, config: E2LoRAConfig, context: MethodContext) -> None:
        self._config = config
        self._context = context
        self._layers = context.model.layers
        if config.norm_reset:
            reset_final_norm(context.model.network)
        self._heads = Classifier(
            config.head_fields, context.model.width, context.device, context.generator
        )
        self.logits, self.trained_logits = self._heads.logits, self._heads.trained_logits
        self.loss = self._heads.loss
        self._watch = UpdateWatch(self._layers, context.diagnostics, context.model.calls)
        self._pretrained = PretrainedRows(self._layers)
        self._pairs = {
            name: {part: OutputPairs(len(weight)) for part, weight in slices.items()}
            for name, slices in self._pretrained.rows.items()
        }
        self._groups: list[ParamGroup] = []

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Makes room for a new pair in every slice and opens it there; it learns, and its head.

        What old pairs give up counts as interference: it is measured from before it.
        """
        self._watch.start(whole(self._added()))
        factors: list[nn.Parameter] = []
        rooms: dict[str, dict[str, Room]] = {}
        for name, layer in self._layers.items():
            if task.index:
                rooms[name] = {part: pairs.make_room() for part, pairs in self._pairs[name].items()}
                factors += _open_in(layer, rooms[name])
                continue
            ranks = {part: rows.stop - rows.start for part, rows in layer.slices.items()}
            opened = open_lora(layer, ranks, self._context.generator)
            factors += [factor for own in opened.values() for factor in (own.up, own.down)]
        self._pretrained.write(self._added())
        head = self._heads.add(len(task.classes))
        self._groups = [ParamGroup("up", factors), ParamGroup("head", head)]
        widths = {
            name: _mean([layer.branch_of(part).up.shape[1] for part in layer.branches])
            for name, layer in self._layers.items()
        }
        return self._groups, by_layer("subspace/rank", widths) | _recorded(rooms)

    def stages(self, task: Task) -> list[Stage]:
        """One training, from the second task on with distillation."""
        distilled = task.index > 0 and self._config.distill > 0
        return [Stage(self._groups, forward=self._distilled if distilled else None)]

    @torch.no_grad()
    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Turns the new pair into principal directions of its outputs, and writes all into rows."""
        images = self._pca_images(train)
        covariances = second_moments(
            model.in_float32, self._layers, images, model.calls, centred=True
        )
        for name, layer in self._layers.items():
            for part, pairs in self._pairs[name].items():
                branch = layer.branch_of(part)
                pairs.add(branch.up, branch.down, covariances[name])
            layer.branches.clear()
        added = self._added()
        self._pretrained.write(added)
        disturbed = self._watch.finish(
            whole(added), model.in_float32, train.plain(), len(train.data)
        )
        recorded = self._heads.end_task(model, train.plain(), train.data.labels, task.classes)
        every = [pairs for slices in self._pairs.values() for pairs in slices.values()]
        spectra = sum(pairs.spectrum_bytes for pairs in every)
        return (
            recorded
            | by_layer("subspace/interference", disturbed)
            | {
                "memory/subspace_bytes": float(spectra + self._heads.bytes),
                "memory/branch_bytes": float(sum(pairs.branch_bytes for pairs in every)),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads, the pairs of old tasks, and moments of old tasks."""
        return {
            "heads": self._heads.state_dict(),
            "pairs": {
                name: {part: pairs.state_dict() for part, pairs in slices.items()}
                for name, slices in self._pairs.items()
            },
            "old": self._watch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        self._watch.load_state_dict(state["old"])
        for name, slices in self._pairs.items():
            for part, pairs in slices.items():
                pairs.load_state_dict(state["pairs"][name][part], self._context.device)
        self._pretrained.write(self._added())

    def _distilled(
        self, model: AdaptedBackbone, images: Tensor, task: Task | None, queries: Tensor | None
    ) -> Scored:
        """Scores with the new pair, and what they differ for old classes from those without it."""
        assert task is not None
        old = task.classes.start
        with torch.no_grad():
            before = self.logits(model.without_open(images))[:, :old]
        features = model(images)
        now = self.logits(features)[:, :old]
        differ = distillation(now, before, self._config.temperature)
        return Scored(self.trained_logits(features), features, self._config.distill * differ)

    def _pca_images(self, train: TaskImages) -> Iterable[Tensor]:
        if self._config.pca_images == "all":
            return train.plain()
        return (images for images, _ in islice(train.shuffled(), 1))

    def _added(self) -> dict[str, dict[str, Tensor]]:
        """What all pairs add to each slice, (rows, in); nothing before the first task has ended."""
        return {
            name: {part: pairs.delta() for part, pairs in slices.items()}
            for name, slices in self._pairs.items()
            if all(map(len, slices.values()))
        }


@torch.no_grad()
def reset_final_norm(network: nn.Module) -> None:
    """Sets the final layer normalisation to weight 1 and bias 0, wherever pretraining left it."""
    norm = final_norm(network)
    assert norm is not None
    for parameter, value in ((norm.weight, 1.0), (norm.bias, 0.0)):
        if parameter is not None:
            parameter.fill_(value)


@torch.no_grad()
def _open_in(layer: LowRankLinear, rooms: Mapping[str, Room]) -> list[nn.Parameter]:
    """Opens a pair in the room of each slice and returns each `down`, which starts at zero."""
    opened = layer.add_branch({part: room.columns.shape[1] for part, room in rooms.items()})
    for part, branch in opened.items():
        branch.up.copy_(rooms[part].columns)
    return [branch.down for branch in opened.values()]


def _recorded(rooms: Mapping[str, Mapping[str, Room]]) -> dict[str, float]:
    """What making room left old tasks with, by layer; nothing in the first task."""
    of = {name: list(slices.values()) for name, slices in rooms.items()}
    means = {
        "threshold": {name: _mean([room.threshold for room in own]) for name, own in of.items()},
        "dim_kept": {name: _mean([room.kept for room in own]) for name, own in of.items()},
        "least_kept": {name: min(room.least_share for room in own) for name, own in of.items()},
    }
    values = {
        key: value
        for what, layers in means.items()
        for key, value in by_layer(f"subspace/{what}", layers).items()
    }
    emptied = {name: any(room.emptied for room in own) for name, own in of.items()}
    return values | counted("subspace/exhausted_layers", emptied)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


create = E2LoRA
