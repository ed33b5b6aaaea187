"""One head a task, linear or of cosines, read together at test time."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.heads.cosine import cosine_scores

INIT_DEVIATION = 0.02


def start_head(head: nn.Linear, init: str, generator: torch.Generator) -> None:
    """Draws the start of a new head; `init` is a `head_init` of the methods' configs.

    "small_normal": weight normal with deviation 0.02, bias 0, so that heads stay comparable.
    "linear": torch's own, weight and bias uniform within 1/√width (deviation 1/√(3·width)).
    "uniform_fan": weight uniform with deviation 1/√width, bias 0. "zero": both 0.
    """
    bound = head.in_features**-0.5
    with torch.no_grad():
        if head.bias is not None:
            head.bias.zero_()
        if init == "small_normal":
            head.weight.normal_(0.0, INIT_DEVIATION, generator=generator)
        elif init == "linear":
            head.weight.uniform_(-bound, bound, generator=generator)
            if head.bias is not None:
                head.bias.uniform_(-bound, bound, generator=generator)
        elif init == "uniform_fan":
            head.weight.uniform_(-(3**0.5) * bound, 3**0.5 * bound, generator=generator)
        elif init == "zero":
            head.weight.zero_()
        else:
            raise ValueError(
                f"method.head_init must be zero, small_normal, linear or uniform_fan, "
                f"but got {init!r}."
            )


class TaskHeads:
    """Linear heads, concatenated for scores over all classes seen.

    Training only the newest with a loss over its own logits is both papers' classifier: InfLoRA's
    head per task, and SD-LoRA's growing layer, whose older rows get no gradient. `init` is how
    each starts (see `start_head`); `normalise` puts a layer normalisation without weights before
    them. `ahead` are the classes of heads that are there from the start, of all tasks or none.
    With a `scale`, scores are that many times the cosine to a class's weights, which start at unit
    length, without a bias.
    """

    def __init__(
        self,
        width: int,
        device: torch.device,
        generator: torch.Generator,
        init: str,
        normalise: bool = False,
        ahead: Sequence[int] = (),
        scale: float | None = None,
    ) -> None:
        self._width = width
        self._device = device
        self._generator = generator
        self._init = init
        self._normalise = normalise
        self._scale = scale
        self._heads: list[nn.Linear] = []
        for classes in ahead:
            self.add(classes)

    @property
    def tasks(self) -> list[range]:
        """The classes of each task, in head order."""
        ends = list(itertools.accumulate(head.out_features for head in self._heads))
        return [
            range(end - head.out_features, end) for head, end in zip(self._heads, ends, strict=True)
        ]

    def add(self, classes: int) -> list[nn.Parameter]:
        """Opens a head for a new task and returns its parameters; older heads are frozen."""
        for head in self._heads:
            head.requires_grad_(False)
        head = self._layer(classes)
        start_head(head, self._init, self._generator)
        if self._scale is not None:
            # Steps would count the more the shorter a direction starts.
            head.weight.data = functional.normalize(head.weight.data)
        self._heads.append(head.to(self._device))
        return list(self._heads[-1].parameters())

    def open(self, task: int, classes: int) -> list[nn.Parameter]:
        """The parameters of a task's head; it is added unless it was there from the start."""
        if task == len(self._heads):
            return self.add(classes)
        return list(self._heads[task].parameters())

    def parameters(self) -> list[nn.Parameter]:
        """Weights and biases of the heads of all tasks."""
        return [parameter for head in self._heads for parameter in head.parameters()]

    def logits(self, features: Tensor) -> Tensor:
        """Scores (n, classes seen) of features (n, width)."""
        return self.scores(self.prepared(features), *self.joined())

    def scores(self, prepared: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Scores (n, classes) of prepared features under what `joined` gives."""
        if self._scale is not None:
            return cosine_scores(prepared, weight, self._scale)
        return functional.linear(prepared, weight, bias)

    def prepared(self, features: Tensor) -> Tensor:
        """Features (n, width) as the linear layers read them."""
        return functional.layer_norm(features, (self._width,)) if self._normalise else features

    def joined(self) -> tuple[Tensor, ...]:
        """Weight (classes seen, width) and, if any, bias (classes seen,) of all heads together."""
        weight = torch.cat([head.weight for head in self._heads])
        if self._scale is not None:
            return (weight,)
        return weight, torch.cat([head.bias for head in self._heads])

    @torch.no_grad()
    def overwrite(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Takes over what `joined` gave of the first classes or all, trained further."""
        tasks = [classes for classes in self.tasks if classes.stop <= len(weight)]
        for head, classes in zip(self._heads, tasks, strict=False):
            head.weight.copy_(weight[classes.start : classes.stop])
            if bias is not None:
                head.bias.copy_(bias[classes.start : classes.stop])

    def state_dict(self) -> dict[str, Any]:
        """Weights and, if any, biases by task."""
        biased = [head for head in self._heads if head.bias is not None]
        return {
            "weights": [head.weight.detach() for head in self._heads],
            "biases": [head.bias.detach() for head in biased],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads = []
        for place, weight in enumerate(state["weights"]):
            head = self._layer(len(weight))
            with torch.no_grad():
                head.weight.copy_(weight)
                if head.bias is not None:
                    head.bias.copy_(state["biases"][place])
            self._heads.append(head.to(self._device))

    def _layer(self, classes: int) -> nn.Linear:
        layer: nn.Linear = nn.utils.skip_init(
            nn.Linear, self._width, classes, bias=self._scale is None
        )
        return layer


def current_task_loss(logits: Tensor, labels: Tensor, classes: range) -> Tensor:
    """Cross-entropy over the current task's classes only, as both papers train."""
    own = logits[:, classes.start : classes.stop]
    return functional.cross_entropy(own, labels - classes.start)
