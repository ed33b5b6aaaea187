"""How the frozen `down` of a new branch is chosen: one function a strategy."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from trainables.low_rank.dual_gpm import DualGPM
from trainables.low_rank.precision import ROUNDING_MARGIN, rounding


@dataclass(frozen=True)
class LayerView:
    """What a strategy may look at of one layer at the start of a task.

    `memory` holds the directions of old tasks, `moment` (dim, dim) is the new task's second
    moment, `gradient` (out, dim) the loss gradient by the weight (None unless asked for).
    """

    memory: DualGPM
    moment: Tensor
    gradient: Tensor | None
    generator: torch.Generator


# Gives at most `rank` rows (≤ rank, dim) in float64, on the device of the moment.
Strategy: TypeAlias = Callable[[LayerView, int], Tensor]


def designed(layer: LayerView, rank: int) -> Tensor:
    """InfLoRA, eq. 8: the leading free directions of the task's second moment."""
    return layer.memory.design(layer.moment, rank)


def gaussian(layer: LayerView, rank: int) -> Tensor:
    """Independent N(0, 1/dim) entries, not projected: rows of mean square norm 1.

    With that variance a rate of learning moves the layer as far as with designed rows.
    """
    return _normal(layer, rank).div(math.sqrt(layer.memory.dim))


def orthonormal(layer: LayerView, rank: int) -> Tensor:
    """Random orthonormal rows, uniform over all such, not projected."""
    columns, _ = torch.linalg.qr(_normal(layer, rank).T)
    rows: Tensor = columns.T.contiguous()
    return rows


def null_space_random(layer: LayerView, rank: int) -> Tensor:
    """Random orthonormal rows inside the free space M⊥, blind to the new task."""
    columns = layer.memory.project(_normal(layer, rank).T)
    return layer.memory.orthonormal(columns)


def principal(layer: LayerView, rank: int) -> Tensor:
    """Leading eigenvectors of the task's second moment, whether old tasks use them or not."""
    values, vectors = torch.linalg.eigh(layer.moment)
    count = int((values > _noise(layer)).sum())
    rows: Tensor = vectors.flip(1)[:, : min(rank, count)].T.contiguous()
    return rows


def null_space_smallest(layer: LayerView, rank: int) -> Tensor:
    """Weakest free directions that the task's second moment still holds above rounding.

    Below that nothing enters the branch, and which direction comes out is arbitrary.
    """
    once = layer.memory.project(layer.moment)
    both_sides = layer.memory.project(once.T)
    values, vectors = torch.linalg.eigh((both_sides + both_sides.T) / 2)
    held = int((values > _noise(layer)).sum())
    weakest_first = vectors[:, len(values) - min(held, layer.memory.free_dim) :]
    return layer.memory.orthonormal(weakest_first[:, :rank])


def gradient(layer: LayerView, rank: int) -> Tensor:
    """Leading right singular vectors of the free part of the loss gradient by the weight."""
    assert layer.gradient is not None
    # A gradient is computed in float32, whatever it is kept in.
    noise = ROUNDING_MARGIN * torch.finfo(torch.float32).eps
    return layer.memory.leading(layer.gradient.to(layer.moment).T, rank, noise)


CHOICES: tuple[Strategy, ...] = (
    designed, gaussian, orthonormal, null_space_random, principal, null_space_smallest, gradient,
)  # fmt: skip
STRATEGIES: Mapping[str, Strategy] = MappingProxyType({made.__name__: made for made in CHOICES})


def fill_up(rows: Tensor, rank: int) -> Tensor:
    """Adds arbitrary orthonormal rows, orthogonal to `rows`, up to `rank`, as released.

    The released code takes the leading left singular vectors of the projected moment: beyond
    its rank these are whatever the decomposition returns, in old tasks' space or not.
    """
    if rows.shape[0] >= rank:
        return rows
    left, _, _ = torch.linalg.svd(rows.T, full_matrices=True)
    return torch.cat([rows, left[:, rows.shape[0] : rank].T])


def _normal(layer: LayerView, rank: int) -> Tensor:
    drawn = torch.randn(rank, layer.memory.dim, generator=layer.generator, dtype=torch.float64)
    return drawn.to(layer.moment)


def _noise(layer: LayerView) -> float:
    return rounding(layer.moment) * float(torch.linalg.matrix_norm(layer.moment))
