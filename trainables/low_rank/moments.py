"""Second moments of the inputs of adapted layers: C = (1/n) Σ x xᵀ over all tokens."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor, nn

from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.precision import exact_products, product_type

# Tokens of one product: few enough for a copy in float64 to be small, and for a sum in float32
# to be rounded in its last bits only.
TOKENS = 4096
# From this width on the triangle is worth several products in place of one.
WIDE = 512
BLOCKS = 4


@torch.no_grad()
def second_moments(
    forward: Callable[[Tensor], object],
    layers: Mapping[str, LowRankLinear],
    batches: Iterable[Tensor],
    calls: int | None = None,
    centred: bool = False,
) -> dict[str, Tensor]:
    """Runs `forward` over image batches and returns C (in, in) in float64 for each of `layers`.

    InfLoRA, section 4.2: both the design of `down` and the memory read nothing else of a task.
    A pass ends at the last of `layers`, which is known from how many `calls` of them there are in
    a pass (None: the first batch is run to its end and tells). That number must be the same in
    every pass: what a longer one calls after it is not seen. All sums stay on the device of the
    inputs. On a CPU products are taken in float64; elsewhere in float32, 4,096 tokens at a time,
    and added up in float64: that moves an entry of C by 4096 · 2⁻²⁴ of the mean of |x_i x_j| at
    the very most, in practice by 1e-7 of it. `centred` takes the mean over tokens off: C is then
    their covariance.
    """
    watch = _Watch(layers, calls, centred)
    handles = [
        layer.register_forward_pre_hook(partial(watch.see, name), prepend=True)
        for name, layer in layers.items()
    ]
    try:
        for images in batches:
            watch.calls = 0
            with suppress(_AllSeen):
                forward(images)
            # A network may call a layer more than once.
            watch.calls_of_a_pass = watch.calls
    finally:
        for handle in handles:
            handle.remove()
    return watch.means()


class _AllSeen(Exception):  # noqa: N818
    """No adapted layer is left in this forward pass; it is nobody's error."""


class _Watch:
    """Adds up x xᵀ of every layer, and ends a pass after the last of them."""

    def __init__(
        self, layers: Mapping[str, LowRankLinear], calls: int | None, centred: bool
    ) -> None:
        self._layers = layers
        self._totals: dict[str, Tensor] | None = {} if centred else None
        self._sums: dict[str, Tensor] = {}
        self._tokens = dict.fromkeys(layers, 0)
        self.calls = 0
        self.calls_of_a_pass = calls

    def see(self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Takes in the inputs of a layer, which calls this before its forward pass."""
        self.calls += 1
        rows = self._layers[name].tokens(inputs[0].detach())
        if name not in self._sums:
            width = rows.shape[1]
            self._sums[name] = torch.zeros(width, width, dtype=torch.float64, device=rows.device)
        add_products(self._sums[name], rows, product_type(rows.device))
        if self._totals is not None:
            self._totals[name] = self._totals.get(name, 0) + rows.sum(0, dtype=torch.float64)
        self._tokens[name] += rows.shape[0]
        if self.calls == self.calls_of_a_pass:
            raise _AllSeen

    def means(self) -> dict[str, Tensor]:
        """C of every layer; zeros where nothing was seen."""
        moments = {}
        for name, layer in self._layers.items():
            if name not in self._sums:
                nothing = torch.zeros(layer.in_features, layer.in_features, dtype=torch.float64)
                moments[name] = nothing.to(layer.base.weight.device)
                continue
            lower = self._sums[name].tril()
            moments[name] = (lower + lower.tril(-1).T) / self._tokens[name]
            if self._totals is not None:
                mean = self._totals[name] / self._tokens[name]
                moments[name] -= torch.outer(mean, mean)
        return moments


def add_products(total: Tensor, rows: Tensor, kind: torch.dtype) -> None:
    """Adds the lower triangle of Σ x xᵀ over `rows` (n, d) to `total` (d, d) in float64.

    Each product of 4,096 rows is taken in `kind`. What is above the diagonal is of no meaning.
    """
    with exact_products(rows.device):
        for part in rows.split(TOKENS):
            if kind == torch.float64:
                _add_lower(total, part.double())
            else:
                total += part.to(kind).T @ part.to(kind)


def _add_lower(total: Tensor, rows: Tensor) -> None:
    """Adds in blocks of whole rows from the first column to the diagonal: 5/8 of the work."""
    width = rows.shape[1]
    blocks = BLOCKS if width >= WIDE else 1
    for at in range(blocks):
        start, stop = width * at // blocks, width * (at + 1) // blocks
        total[start:stop, :stop].addmm_(rows[:, start:stop].T, rows[:, :stop])
