"""Second moments of the inputs of adapted layers: C = (1/n) Σ x xᵀ over all tokens."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.low_rank.branch import LowRankLinear


@torch.no_grad()
def second_moments(
    model: nn.Module, layers: Mapping[str, LowRankLinear], batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Runs `model` over image batches and returns C (in, in) in float64 for each of `layers`.

    InfLoRA, section 4.2: both the design of `down` and the memory read nothing else of a task.
    """
    sums = {
        name: torch.zeros(layer.in_features, layer.in_features, dtype=torch.float64)
        for name, layer in layers.items()
    }
    tokens = dict.fromkeys(layers, 0)

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # A product rounded to float32 would give noise the looks of weak directions.
            rows = layers[name].tokens(inputs[0].detach()).double()
            sums[name] = sums[name].to(rows.device) + rows.T @ rows
            tokens[name] += rows.shape[0]

        return layers[name].register_forward_pre_hook(add)

    handles = [watch(name) for name in layers]
    try:
        for images in batches:
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: sums[name] / max(1, tokens[name]) for name in layers}


def interference(delta: Tensor, old_moment: Tensor) -> float:
    """‖ΔW C_old‖ / (‖ΔW‖ ‖C_old‖) in [0, 1]; 0 where nothing was changed or nothing is old."""
    delta = delta.to(old_moment)
    scale = float(torch.linalg.matrix_norm(delta) * torch.linalg.matrix_norm(old_moment))
    return float(torch.linalg.matrix_norm(delta @ old_moment)) / scale if scale > 0 else 0.0


class OldMoments:
    """Mean second moment of all earlier tasks by layer, each task weighted by its images.

    For diagnosis only: where it is not `enabled`, nothing is kept and nothing is reported.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.mean: dict[str, Tensor] = {}
        self.images = 0

    def add(self, moments: Mapping[str, Tensor], images: int) -> None:
        """Takes in the second moments of a task of `images` images."""
        if not self.enabled:
            return
        total = self.images + images
        for name, moment in moments.items():
            old = self.mean.get(name)
            self.mean[name] = (
                moment if old is None else (old.to(moment) * self.images + moment * images) / total
            )
        self.images = total

    def interference(self, deltas: Mapping[str, Tensor]) -> dict[str, float]:
        """`interference` of each layer's update; empty while there is no earlier task."""
        return {
            name: interference(delta, self.mean[name])
            for name, delta in deltas.items()
            if name in self.mean
        }

    def state_dict(self) -> dict[str, Any]:
        """Means and the number of images."""
        return {"mean": dict(self.mean), "images": self.images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.mean, self.images = dict(state["mean"]), state["images"]
