"""Frequent Directions (Ghashami et al., SIAM J. Comput. 2016): few columns for many matrices."""

import torch
from torch import Tensor


def shrunk(values: Tensor, size: int) -> Tensor:
    """The first `size` singular values σ_i as √(σ_i² − σ²), with σ the next one or 0.

    `values` (n,) descend. What is taken off is what the directions that are left out could hold.
    """
    next_one = values[size] if len(values) > size else values.new_zeros(())
    return (values[:size].square() - next_one.square()).clamp_min(0).sqrt()


class FrequentDirections:
    """Up to `size` directions (dim, k) with weights (k,) of the matrices that were taken in.

    `decay` is what older ones are multiplied by each time, as columns; 1 forgets nothing.
    """

    def __init__(self, size: int, decay: float) -> None:
        self._size = size
        self._decay = decay
        self.directions: Tensor | None = None
        self.values: Tensor | None = None

    def add(self, left: Tensor, values: Tensor) -> None:
        """Takes in a matrix by its left singular vectors (dim, n) and singular values (n,)."""
        directions, kept = left[:, : self._size], shrunk(values, self._size)
        if self.directions is not None and self.values is not None:
            older = self._decay * self.directions * self.values
            merged = torch.cat([older, directions * kept], dim=1)
            found, spread, _ = torch.linalg.svd(merged, full_matrices=False)
            directions, kept = found[:, : self._size], shrunk(spread, self._size)
        self.directions, self.values = directions, kept

    def leading(self, share: float, reach: bool) -> Tensor:
        """The leading directions (dim, k) whose squared values sum up to a `share` of the whole.

        The last of them reaches it; without `reach` it is left out, as released: none is left
        where the first alone reaches it. Directions without weight never count.
        """
        if self.directions is None or self.values is None:
            return torch.zeros(0, 0)
        squares = self.values.square()
        total = squares.sum()
        if not total > 0:
            return self.directions[:, :0]
        below = int((squares.cumsum(0) / total < share).sum())
        weighty = int((self.values > 0).sum())
        return self.directions[:, : min(below + reach, weighty)]
