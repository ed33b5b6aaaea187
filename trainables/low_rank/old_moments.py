"""Mean second moment of all earlier tasks, and how far an update reaches into it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def interference(delta: Tensor, old_moment: Tensor) -> float:
    """‖ΔW C_old‖ / (‖ΔW‖ ‖C_old‖) in [0, 1]; 0 where nothing was changed or nothing is old."""
    delta = delta.to(old_moment)
    scale = float(torch.linalg.matrix_norm(delta) * torch.linalg.matrix_norm(old_moment))
    return float(torch.linalg.matrix_norm(delta @ old_moment)) / scale if scale > 0 else 0.0


def packed(moment: Tensor) -> Tensor:
    """The lower triangle of a symmetric (d, d) in float32: d (d + 1) / 2 numbers."""
    below = torch.tril_indices(*moment.shape, device=moment.device)
    return moment[below[0], below[1]].float()


def unpacked(triangle: Tensor) -> Tensor:
    """The symmetric (d, d) in float64 of what `packed` gave."""
    width = int(((8 * len(triangle) + 1) ** 0.5 - 1) / 2)
    below = torch.tril_indices(width, width, device=triangle.device)
    lower = torch.zeros(width, width, dtype=torch.float64, device=triangle.device)
    lower[below[0], below[1]] = triangle.double()
    return lower + lower.tril(-1).T


class OldMoments:
    """Mean second moment of all earlier tasks by layer, each task weighted by its images.

    For diagnosis only: where it is not `enabled`, nothing is kept and nothing is reported. A mean
    is kept as a triangle in float32, a quarter of the whole in float64.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._mean: dict[str, Tensor] = {}
        self.images = 0

    def mean(self, name: str) -> Tensor:
        """The mean (d, d) of a layer, in float64."""
        return unpacked(self._mean[name])

    def add(self, moments: Mapping[str, Tensor], images: int) -> None:
        """Takes in the second moments of a task of `images` images."""
        if not self.enabled:
            return
        total = self.images + images
        for name, moment in moments.items():
            if name in self._mean:
                old = self.mean(name).to(moment)
                moment = (old * self.images + moment * images) / total
            self._mean[name] = packed(moment)
        self.images = total

    def interference(self, deltas: Mapping[str, Tensor]) -> dict[str, float]:
        """`interference` of each layer's update; empty while there is no earlier task."""
        return {
            name: interference(delta, self.mean(name).to(delta.device))
            for name, delta in deltas.items()
            if name in self._mean
        }

    def state_dict(self) -> dict[str, Any]:
        """Triangles of the means and the number of images."""
        return {"mean": dict(self._mean), "images": self.images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._mean, self.images = dict(state["mean"]), state["images"]
