"""The loss gradient by the weights of adapted layers, without leaving a trace on the model."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from trainables.low_rank.branch import LowRankLinear


def weight_gradients(
    forward: Callable[[Tensor], Tensor],
    layers: Mapping[str, LowRankLinear],
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Mean gradient G (rows, in) of `loss`(outputs, labels) by the adapted rows of each layer.

    The rows are those of all slices, one below the other, in float64. No `.grad` is written, and
    what requires a gradient is as before.
    """
    weights = {name: layer.base.weight for name, layer in layers.items()}
    required = {name: weight.requires_grad for name, weight in weights.items()}
    sums = {name: torch.zeros_like(layer.weight).double() for name, layer in layers.items()}
    images = 0
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        for inputs, labels in batches:
            with torch.enable_grad():
                value = loss(forward(inputs), labels) * len(labels)
                gradients = torch.autograd.grad(
                    value, list(weights.values()), allow_unused=True, materialize_grads=True
                )
            for name, part in zip(weights, gradients, strict=True):
                sums[name] += part.flatten(1)
            images += len(labels)
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(required[name])
    return {
        name: torch.cat([sums[name][rows] for rows in layer.slices.values()]) / max(1, images)
        for name, layer in layers.items()
    }
