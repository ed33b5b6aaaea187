"""LoDA (arXiv 2603.00191): one branch where old tasks are, one where the new task stands out."""

from typing import Any

import torch
from torch import Tensor, nn

from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import Task
from trainables.heads import Classifier
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.moments import second_moments
from trainables.low_rank.old_moments import interference
from trainables.method import Backward, MethodContext, ParamGroup
from trainables.methods.loda.config import LoDAConfig
from trainables.methods.loda.directions import etas, general, isolated, share, suited
from trainables.methods.loda.gao import Part, paired_steps
from trainables.metrics import by_layer


class LoDA:
    """W0 + s_g up_g down_g + s_i up_i down_i, merged after each task; `down` is designed.

    Both branches are one pair here, whose first ranks are the general one's. The first task has
    that alone and trains its `down` as well.
    """

    trains_backbone = False

    def __init__(self, config: LoDAConfig, context: MethodContext) -> None:
        self._config = config
        self._context = context
        self._layers = context.model.layers
        self._heads = Classifier(
            config.head_fields, context.model.width, context.device, context.generator
        )
        self.logits, self.trained_logits = self._heads.logits, self._heads.trained_logits
        self.loss = self._heads.loss
        # Summed over old tasks, each a mean over its tokens: not weighted by their sizes.
        self._old: dict[str, Tensor] = {}
        # Of the task that is trained.
        self._new: dict[str, Tensor] = {}
        self._parts: list[Part] = []

    def begin_task(
        self, model: AdaptedBackbone, task: Task, train: TaskImages
    ) -> tuple[list[ParamGroup], dict[str, float]]:
        """Designs `down` from the moments of old and new tasks; `up` and the head learn."""
        self._new = self._moments(model, train)
        self._parts = []
        factors: list[nn.Parameter] = []
        recorded: dict[str, dict[str, float]] = {}
        for name, layer in self._layers.items():
            new = self._new[name]
            old = self._old.get(name, torch.zeros_like(new))
            rows = {"general": general(new, old, self._config.rank)}
            if task.index:
                rows["isolated"] = isolated(new, old, self._config.rank)
            factors += self._open(layer, rows)
            for which, own in rows.items():
                recorded.setdefault(f"new_energy_{which}", {})[name] = share(own, new)
                if task.index:
                    recorded.setdefault(f"old_energy_{which}", {})[name] = share(own, old)
        head = self._heads.add(len(task.classes))
        values = {
            key: value
            for what, layers in recorded.items()
            for key, value in by_layer(f"subspace/{what}", layers).items()
        }
        return [ParamGroup("up", factors), ParamGroup("head", head)], values

    def step(self, optimizer: torch.optim.Optimizer, backward: Backward) -> Tensor:
        """Steps on each half of the classes, or a plain one where rho is 0."""
        if self._config.rho == 0:
            loss = backward()
            optimizer.step()
            return loss
        generator = self._context.generator
        return paired_steps(optimizer, backward, self._parts, self._config.rho, generator)

    @torch.no_grad()
    def end_task(self, model: AdaptedBackbone, task: Task, train: TaskImages) -> dict[str, float]:
        """Suits the general branch to old tasks, merges both, and adds the task's moments."""
        branch_bytes = sum(
            factor.nbytes
            for layer in self._layers.values()
            for factor in layer.branches.parameters()
        )
        weights = self._suit() if task.index else {}
        disturbed = {}
        for name, layer in self._layers.items():
            if self._context.diagnostics and task.index:
                disturbed[name] = interference(layer.delta(), self._old[name])
            layer.merge()
        after = self._moments(model, train)
        twice = self._config.moment_passes == "twice"
        for name, moment in after.items():
            added = moment + self._new[name] if twice else moment
            self._old[name] = self._old[name] + added if task.index else added
        self._new, self._parts = {}, []
        recorded = self._heads.end_task(model, train.plain(), train.data.labels, task.classes)
        held = sum(moment.nbytes for moment in self._old.values())
        return (
            recorded
            | by_layer("subspace/eta", weights)
            | by_layer("subspace/interference", disturbed)
            | {
                "memory/subspace_bytes": float(held + self._heads.bytes),
                "memory/branch_bytes": float(branch_bytes),
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Heads and the moments of old tasks; merged rows are the model's."""
        return {"heads": self._heads.state_dict(), "old": dict(self._old)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads.load_state_dict(state["heads"])
        device = self._context.device
        self._old = {name: moment.to(device) for name, moment in state["old"].items()}

    def _open(self, layer: LowRankLinear, rows: dict[str, Tensor]) -> list[nn.Parameter]:
        """Opens both branches on every slice, as one pair, and returns what learns of it."""
        config = self._config
        first = len(rows["general"])
        down = config.down_scale * torch.cat(list(rows.values()))
        scale = torch.full((len(down),), config.general_scale)
        scale[first:] = config.isolated_scale
        learned: list[nn.Parameter] = []
        opened = layer.add_branch(dict.fromkeys(layer.slices, len(down)))
        for branch in opened.values():
            with torch.no_grad():
                branch.down.copy_(down)
            branch.magnitude = nn.Parameter(scale.to(branch.up), requires_grad=False)
            learned.append(branch.up)
            self._parts.append(Part(branch.up, slice(0, first)))
            if "isolated" in rows:
                self._parts.append(Part(branch.up, slice(first, None)))
            else:
                learned.append(branch.down)
                self._parts.append(Part(branch.down, slice(None)))
        return learned

    def _suit(self) -> dict[str, float]:
        """Suits the general columns of every pair to old tasks; returns the mean η of each layer.

        That is η of single directions, whichever way they are suited.
        """
        means = {}
        for name, layer in self._layers.items():
            new, old = self._new[name], self._old[name]
            for part in layer.branches:
                branch = layer.branch_of(part)
                rows = branch.down[: self._config.rank]
                weight, merge = self._config.new_weight, self._config.merge
                columns = branch.up[:, : len(rows)]
                columns.copy_(suited(columns, rows, new, old, weight, merge))
                means[name] = float(etas(rows, new, old, weight).mean())
        return means

    def _moments(self, model: AdaptedBackbone, train: TaskImages) -> dict[str, Tensor]:
        return second_moments(model.in_float32, self._layers, train.plain(), model.calls)


create = LoDA
