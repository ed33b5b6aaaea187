"""Pretrained rows of adapted layers, kept so that what is added to them can be written anew."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.low_rank.branch import LowRankLinear


class PretrainedRows:
    """Copies of the rows of all slices: to take off again what was added to them would round."""

    def __init__(self, layers: Mapping[str, LowRankLinear]) -> None:
        self._layers = layers
        self.rows = {
            name: {part: layer.weight[rows].detach().clone() for part, rows in layer.slices.items()}
            for name, layer in layers.items()
        }

    def write(self, added: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Writes them into the layers, with what is added to some slices, (rows, in) each."""
        for name, slices in self.rows.items():
            own = added.get(name, {})
            self._layers[name].rewrite(
                {part: rows + own[part] if part in own else rows for part, rows in slices.items()}
            )


def whole(slices: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The slices of each layer below one another, (rows, in): a copy."""
    return {name: torch.cat(list(parts.values())) for name, parts in slices.items()}
