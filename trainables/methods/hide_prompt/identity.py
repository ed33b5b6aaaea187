"""What tells the task of an image: a small classifier on its query, trained before the prompt."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.heads import TaskHeads
from trainables.method import MethodContext
from trainables.methods.hide_prompt.config import HiDePromptConfig
from trainables.methods.hide_prompt.statistics import ClassCentroids, align


class TaskIdentity:
    """Heads on the layer norm of h + MLP(h), with h an image's query; it goes on through all tasks.

    Scores are of classes seen alone, so that no unseen task is ever named.
    """

    def __init__(self, config: HiDePromptConfig, context: MethodContext) -> None:
        self._config = config
        width, device, generator = context.model.width, context.device, context.generator
        hidden = config.identity_width * width
        self._mlp = nn.Sequential(
            nn.utils.skip_init(nn.Linear, width, hidden),
            nn.GELU(),
            nn.utils.skip_init(nn.Linear, hidden, width),
        )
        self._norm = nn.LayerNorm(width)
        for parameter in self._mlp.parameters():
            # As torch's linear layers start, by the trial's generator.
            bound = (width if parameter.shape[0] == hidden else hidden) ** -0.5
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        for module in (self._mlp, self._norm):
            module.to(device).requires_grad_(False)
        self._heads = TaskHeads(width, device, generator, config.head_init)
        self._kept = ClassCentroids(config.centroids, generator)

    @property
    def bytes(self) -> int:
        """Size of MLP and norm in bytes."""
        return sum(parameter.nbytes for parameter in self._shared())

    @property
    def statistics_bytes(self) -> int:
        """Size of what is kept of the classes in bytes."""
        return self._kept.bytes

    def open(self, classes: int) -> list[nn.Parameter]:
        """Adds a head for a new task; returns what learns it."""
        return self._shared() + self._heads.add(classes)

    def logits(self, queries: Tensor) -> Tensor:
        """Scores (n, classes seen) of queries (n, width)."""
        return self._heads.logits(self._prepared(queries))

    def told(self, queries: Tensor) -> Tensor:
        """The tasks (n,) that images with these queries are of."""
        return self._task_of_class().to(queries.device)[self.logits(queries).argmax(1)]

    def exported(self) -> dict[str, Tensor]:
        """What `PromptedNetwork` needs to tell the task."""
        weight, bias = self._heads.joined()
        names = ("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias", "norm_weight", "norm_bias")
        return {
            **dict(zip(names, self._shared(), strict=True)),
            "identity_weight": weight,
            "identity_bias": bias,
            "task_of_class": self._task_of_class(),
        }

    def consolidate(self, queries: Tensor, labels: Tensor, classes: range) -> None:
        """Remembers a task's images (queries not augmented) and trains all scores together."""
        self._kept.remember(queries, labels, classes)
        if not classes.start:
            return
        weight, bias = (nn.Parameter(tensor.detach().clone()) for tensor in self._heads.joined())
        config = self._config
        align(
            lambda features: functional.linear(self._prepared(features), weight, bias),
            [*self._shared(), weight, bias],
            self._kept,
            old=classes.start,
            epochs=config.align_epochs,
            lr=config.identity_align_lr,
            samples=config.identity_align_samples,
            whole=config.align_steps == "whole",
        )
        self._heads.overwrite(weight.detach(), bias.detach())

    def state_dict(self) -> dict[str, Any]:
        """MLP, norm, heads and what is kept of the classes."""
        return {
            "mlp": {name: value.detach() for name, value in self._mlp.state_dict().items()},
            "norm": {name: value.detach() for name, value in self._norm.state_dict().items()},
            "heads": self._heads.state_dict(),
            "kept": self._kept.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._mlp.load_state_dict(state["mlp"])
        self._norm.load_state_dict(state["norm"])
        self._heads.load_state_dict(state["heads"])
        self._kept.load_state_dict(state["kept"])

    def _task_of_class(self) -> Tensor:
        tasks = self._heads.tasks
        return torch.cat([torch.full((len(own),), task) for task, own in enumerate(tasks)])

    def _shared(self) -> list[nn.Parameter]:
        return [*self._mlp.parameters(), *self._norm.parameters()]

    def _prepared(self, queries: Tensor) -> Tensor:
        prepared: Tensor = self._norm(queries + self._mlp(queries))
        return prepared
