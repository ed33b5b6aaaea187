"""A linear map whose weight is a frozen matrix plus low-rank pairs, composed once a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

FACTORS = 3  # up, scale and down of a pair
FIXED = 4  # arguments of `Composed` before those


@dataclass(frozen=True)
class Pair:
    """(up · scale) @ down on the output rows `rows`: `up` (n, R), `down` (R, in).

    `scale` is one number or one for each rank, (R,).
    """

    rows: slice
    up: Tensor
    scale: Tensor
    down: Tensor


def compose(weight: Tensor, pairs: Sequence[Pair]) -> Tensor:
    """The frozen `weight` (out, in) with all pairs added: a new tensor, outside of autograd."""
    with torch.no_grad():
        whole = weight.clone()
        for pair in pairs:
            whole[pair.rows].addmm_(pair.up * pair.scale, pair.down)
    return whole


def composed_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, pairs: Sequence[Pair]
) -> Tensor:
    """Maps (…, in) to (…, out) by `compose(weight, pairs)`, with gradients for what needs them.

    Autograd through the composed weight would take the gradient by all of its rows and by every
    factor. Here each slice takes the cheaper of two ways, by the number of multiplications: the
    gradient by its own rows of the weight, and the factors' from that; or, where tokens or ranks
    are few, thin products of the tokens with the factors. `x` is taken in its own precision, and
    the weight is composed in that of the factors.
    """
    factors = [factor for pair in pairs for factor in (pair.up, pair.scale, pair.down)]
    # Products have the precision of x, whatever autocast would make of them.
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = Composed.apply(
            x.reshape(-1, x.shape[-1]), weight, bias, tuple(pair.rows for pair in pairs), *factors
        )
    return out.reshape(*x.shape[:-1], out.shape[-1])


class Composed(torch.autograd.Function):
    """The map of `composed_linear` on tokens (n, in); x is kept only where a gradient reads it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: tuple[slice, ...],
        *factors: Tensor,
    ) -> Tensor:
        """Outputs (n, out)."""
        pairs = _paired(rows, factors)
        whole = compose(weight, pairs).to(x.dtype)
        needs = [
            _Needs(*ctx.needs_input_grad[at : at + FACTORS])
            for at in range(FIXED, FIXED + FACTORS * len(pairs), FACTORS)
        ]
        thin = [
            _thin_is_cheaper(x.shape[0], [(p, n) for p, n in zip(pairs, needs, strict=True)
                                          if p.rows == pair.rows])
            for pair in pairs
        ]  # fmt: skip
        # Where `down` is fixed and thin, its few outputs stand in for x, the larger of the two.
        whole_x = ctx.needs_input_grad[1] or any(
            need.down or (need.any and not few) for need, few in zip(needs, thin, strict=True)
        )
        inner = [
            None if whole_x or not need.inner else functional.linear(x, pair.down.to(x.dtype))
            for pair, need in zip(pairs, needs, strict=True)
        ]
        ctx.rows, ctx.needs, ctx.thin = rows, needs, thin
        ctx.save_for_backward(x if whole_x else None, whole, *factors, *inner)
        return functional.linear(x, whole, None if bias is None else bias.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by x, weight, bias and the factors, None for each that needs none."""
        x, whole, *rest = ctx.saved_tensors
        factors, inner = rest[: FACTORS * len(ctx.rows)], rest[FACTORS * len(ctx.rows) :]
        by_x = grad @ whole if ctx.needs_input_grad[0] else None
        by_weight = grad.T @ x if ctx.needs_input_grad[1] else None
        by_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        by_rows: dict[tuple[int, int], Tensor] = {}
        by_factors: list[Tensor | None] = []
        for pair, need, thin, narrow in zip(
            _paired(ctx.rows, factors), ctx.needs, ctx.thin, inner, strict=True
        ):
            if not need.any:
                by_factors += [None] * FACTORS
                continue
            mine = grad[:, pair.rows]
            if thin:
                by_factors += _from_tokens(x, mine, pair, need, narrow)
                continue
            key = (pair.rows.start, pair.rows.stop)
            if key not in by_rows:
                by_rows[key] = (mine.T @ x).to(pair.up.dtype)
            by_factors += _from_rows(by_rows[key], pair, need)
        return by_x, by_weight, by_bias, None, *by_factors


@dataclass(frozen=True)
class _Needs:
    """Which factors of a pair need a gradient."""

    up: bool
    scale: bool
    down: bool

    @property
    def any(self) -> bool:
        return self.up or self.scale or self.down

    @property
    def inner(self) -> bool:
        """Whether the gradient reads down @ x."""
        return self.up or self.scale

    @property
    def outer(self) -> bool:
        """Whether the gradient reads upᵀ @ (the gradient by the outputs)."""
        return self.scale or self.down


def _thin_is_cheaper(tokens: int, slices: Sequence[tuple[Pair, _Needs]]) -> bool:
    """Compares the multiplications of `_from_tokens` and `_from_rows` for the pairs of a slice."""
    thin, dense = 0, 0
    for pair, need in slices:
        (out, rank), inside = pair.up.shape, pair.down.shape[1]
        thin += tokens * rank * inside * (need.inner + need.down)
        thin += tokens * rank * out * (need.outer + need.up)
        dense += out * rank * inside * (need.inner + need.down)
    if not slices:
        return True
    return thin <= dense + tokens * slices[0][0].up.shape[0] * slices[0][0].down.shape[1]


def _from_tokens(
    x: Tensor | None, grad: Tensor, pair: Pair, need: _Needs, inner: Tensor | None
) -> list[Tensor | None]:
    """Gradients of a pair from thin products over tokens; `inner` is down @ x if it is known."""
    if inner is None and need.inner:
        assert x is not None
        inner = functional.linear(x, pair.down.to(x.dtype))
    outer = grad @ pair.up.to(grad.dtype) if need.outer else None
    up = scale = down = None
    if need.up and inner is not None:
        up = (grad.T @ inner).to(pair.up.dtype) * pair.scale
    if need.scale and inner is not None and outer is not None:
        scale = (inner * outer).sum(0, dtype=pair.scale.dtype).sum_to_size(pair.scale.shape)
    if need.down and outer is not None:
        assert x is not None
        down = (outer.T @ x).to(pair.down.dtype) * _by_rank(pair.scale)
    return [up, scale, down]


def _from_rows(by_rows: Tensor, pair: Pair, need: _Needs) -> list[Tensor | None]:
    """Gradients of a pair from the gradient by its rows of the weight, (n, in)."""
    inner = by_rows @ pair.down.T if need.inner else None
    up = scale = down = None
    if need.up and inner is not None:
        up = inner * pair.scale
    if need.scale and inner is not None:
        scale = (inner * pair.up).sum(0).sum_to_size(pair.scale.shape)
    if need.down:
        down = (pair.up * pair.scale).T @ by_rows
    return [up, scale, down]


def _by_rank(scale: Tensor) -> Tensor:
    """`scale` as factors on the rows of `down`."""
    return scale[:, None] if scale.ndim else scale


def _paired(rows: Sequence[slice], factors: Sequence[Tensor]) -> list[Pair]:
    return [
        Pair(covered, *factors[at * FACTORS : (at + 1) * FACTORS])
        for at, covered in enumerate(rows)
    ]
