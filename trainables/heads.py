"""One linear head a task, read together at test time."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

INIT_DEVIATION = 0.02


class TaskHeads:
    """Linear heads, concatenated for scores over all classes seen.

    Training only the newest with a loss over its own logits is both papers' classifier: InfLoRA's
    head per task, and SD-LoRA's growing layer, whose older rows get no gradient.
    """

    def __init__(self, width: int, device: torch.device, generator: torch.Generator) -> None:
        self._width = width
        self._device = device
        self._generator = generator
        self._heads: list[nn.Linear] = []

    def add(self, classes: int) -> list[nn.Parameter]:
        """Opens a head for a new task and returns its parameters; older heads are frozen."""
        for head in self._heads:
            head.requires_grad_(False)
        head = nn.utils.skip_init(nn.Linear, self._width, classes)
        with torch.no_grad():
            head.weight.normal_(0.0, INIT_DEVIATION, generator=self._generator)
            head.bias.zero_()
        self._heads.append(head.to(self._device))
        return list(self._heads[-1].parameters())

    def logits(self, features: Tensor) -> Tensor:
        """Scores (n, classes seen) of features (n, width)."""
        weight = torch.cat([head.weight for head in self._heads])
        bias = torch.cat([head.bias for head in self._heads])
        return functional.linear(features, weight, bias)

    def state_dict(self) -> dict[str, Any]:
        """Weights and biases by task."""
        return {
            "weights": [head.weight.detach() for head in self._heads],
            "biases": [head.bias.detach() for head in self._heads],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._heads = []
        for weight, bias in zip(state["weights"], state["biases"], strict=True):
            head = nn.utils.skip_init(nn.Linear, self._width, weight.shape[0])
            with torch.no_grad():
                head.weight.copy_(weight)
                head.bias.copy_(bias)
            self._heads.append(head.to(self._device))


def current_task_loss(logits: Tensor, labels: Tensor, classes: range) -> Tensor:
    """Cross-entropy over the current task's classes only, as both papers train."""
    own = logits[:, classes.start : classes.stop]
    return functional.cross_entropy(own, labels - classes.start)
