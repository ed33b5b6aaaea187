"""Which slices of which layers share the magnitudes α of SD-LoRA, and how pairs become old."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainables.low_rank.branch import LowRankBranch, LowRankLinear
from trainables.low_rank.directions import DirectionStack, pair_norm
from trainables.low_rank.distill import fit


class AlphaScope:
    """Slices that have one α per task between them, each a layer and the name of its slice.

    All of them hold pairs of the same tasks, since a pair is kept or dropped in all at once.
    """

    def __init__(self, places: Sequence[tuple[LowRankLinear, str]]) -> None:
        self._places = tuple(places)

    @property
    def stacks(self) -> list[DirectionStack]:
        """The old directions of every slice; empty before the first task has ended."""
        return [layer.stack_of(name) for layer, name in self._places if name in layer.stacks]

    @property
    def pairs(self) -> list[LowRankBranch]:
        """The pair in training of every slice."""
        return [layer.branch_of(name) for layer, name in self._places]

    @torch.no_grad()
    def open(self, initial: float, reset: bool) -> list[nn.Parameter]:
        """Ties the α of all slices and starts that of the new pairs at `initial`.

        With `reset` those of old pairs start there as well, each pair at norm 1: the function
        jumps, as that of the released code does. Returns each parameter once.
        """
        magnitude = nn.Parameter(torch.full_like(self.pairs[0].magnitude, initial))
        for pair in self.pairs:
            pair.magnitude = magnitude
        stacks = self.stacks
        if not stacks:
            return [magnitude]
        if reset:
            for stack in stacks:
                stack.share.fill_(1.0)
        alpha = stacks[0].alpha
        return [self._tie(torch.full_like(alpha, initial) if reset else alpha), magnitude]

    @torch.no_grad()
    def close(self, task: int, normaliser: str, tau: float | None) -> None:
        """Turns the pairs of task number `task` into old directions, without moving the function.

        Where slices share α, it takes over the root mean square of their pairs' norms, and each
        slice keeps its norm over that as a fixed share. With `tau`, pairs that old directions
        hold up to a squared relative residual below it are dropped, and what they add goes into
        the old α; the first task's pairs are always kept.
        """
        pairs = self.pairs
        if tau is not None and self.stacks:
            coefficients, residual = fit(self.stacks, pairs)
            if residual < tau:
                alpha = self.stacks[0].alpha
                self._tie((alpha + pairs[0].magnitude * coefficients).to(alpha))
                for layer, name in self._places:
                    layer.drop(name)
                return
        norms = [pair_norm(pair.up, pair.down, normaliser) for pair in pairs]
        scale = torch.stack(norms).square().mean().sqrt() if len(norms) > 1 else norms[0]
        for (layer, name), norm in zip(self._places, norms, strict=True):
            layer.stack(name, norm, scale, task)
        self._tie(self.stacks[0].alpha)

    def _tie(self, values: Tensor) -> nn.Parameter:
        """Gives all slices one and the same parameter, of these values."""
        shared = nn.Parameter(values.detach().clone())
        for stack in self.stacks:
            stack.alpha = shared
        return shared


def alpha_scopes(layers: Mapping[str, LowRankLinear], scope: str) -> list[AlphaScope]:
    """One α for all slices of all layers ("global"), per "layer", or per slice ("branch")."""
    by_layer = [[(layer, name) for name in layer.slices] for layer in layers.values()]
    if scope == "layer":
        return [AlphaScope(places) for places in by_layer]
    places = [place for group in by_layer for place in group]
    return [AlphaScope(places)] if scope == "global" else [AlphaScope([place]) for place in places]
