"""The drift-resistant space of a layer's inputs, and updates that are kept in it."""

import torch
from torch import Tensor


def drift_resistant(moment: Tensor, share: float) -> Tensor:
    """The fewest leading eigenvectors (dim, k) of a moment (dim, dim) that hold a `share` of it.

    None of a moment of zeros. ValueError if `moment` is not finite.
    """
    if not bool(torch.isfinite(moment).all()):
        raise ValueError("moment must be finite, but it holds NaN or infinity.")
    found, rising = torch.linalg.eigh((moment + moment.T) / 2)
    values: Tensor = found.flip(0).clamp_min(0)
    vectors: Tensor = rising.flip(1)
    total = values.sum()
    if not total > 0:
        return vectors[:, :0]
    count = int((values.cumsum(0) / total < share).sum()) + 1
    return vectors[:, :count].contiguous()


class Projected:
    """P = U Uᵀ of a basis U (dim, k), divided by ‖P‖ = √k where it is `scaled`."""

    def __init__(self, basis: Tensor, scaled: bool) -> None:
        self.basis = basis
        self._scale = max(1, basis.shape[1]) ** -0.5 if scaled else 1.0

    def right(self, update: Tensor) -> Tensor:
        """`update` P of an update (n, dim) of what reads the inputs."""
        inside: Tensor = self._scale * (update @ self.basis) @ self.basis.T
        return inside

    def left(self, update: Tensor) -> Tensor:
        """P `update` of an update (dim, n) of what writes as many outputs as there are inputs."""
        inside: Tensor = self._scale * self.basis @ (self.basis.T @ update)
        return inside
