"""Plain LoRA (Hu et al., ICLR 2022): both factors of a branch are trained."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.low_rank.branch import LowRankBranch, LowRankLinear


class ContinuingLoRA:
    """One branch of `rank` on every slice, opened at the first task and never closed."""

    def __init__(
        self, layers: Mapping[str, LowRankLinear], rank: int, generator: torch.Generator
    ) -> None:
        self._layers = layers
        self._rank = rank
        self._generator = generator
        self._open = False

    def parameters(self) -> list[nn.Parameter]:
        """Both factors of all branches, which are opened if they are not yet."""
        if not self._open:
            for layer in self._layers.values():
                open_lora(layer, self._rank, self._generator)
            self._open = True
        return list(self._factors().values())

    def deltas(self) -> dict[str, Tensor]:
        """What the branches add to the weight of each layer, (out, in)."""
        return {name: layer.delta().detach() for name, layer in self._layers.items()}

    @property
    def bytes(self) -> int:
        """Size of all factors."""
        return sum(factor.nbytes for factor in self._factors().values())

    def state_dict(self) -> dict[str, Any]:
        """Both factors by layer and slice; empty while nothing is open."""
        return {key: factor.detach().clone() for key, factor in self._factors().items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave; draws no random number."""
        self._open = bool(state)
        for layer in self._layers.values():
            layer.branches.clear()
            if self._open:
                layer.add_branch(self._rank)
        for key, factor in self._factors().items():
            factor.copy_(state[key])

    def _factors(self) -> dict[str, nn.Parameter]:
        """Both factors of every open branch, by layer and slice."""
        return {
            f"{name}.{part}.{factor}": getattr(layer.branch_of(part), factor)
            for name, layer in self._layers.items()
            for part in layer.branches
            for factor in ("up", "down")
        }


def open_lora(
    layer: LowRankLinear, rank: int | Mapping[str, int], generator: torch.Generator
) -> dict[str, LowRankBranch]:
    """Opens a branch on every slice and returns them; its `down` starts as usual for LoRA.

    That is uniform with the bound 1/√in of Kaiming's a = √5, and `up` at zero. `rank` is that of
    all slices, or of each by its name.
    """
    opened = layer.add_branch(rank)
    bound = layer.in_features**-0.5
    for branch in opened.values():
        start = torch.empty(branch.down.shape).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            branch.down.copy_(start)
    return opened
