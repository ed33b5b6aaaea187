"""What happens to pixels before a network sees them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Normalise(nn.Module):
    """(x − mean) / deviation for each channel of images (n, c, h, w) in [0, 1].

    Neither is trained nor saved: both come with the network's pretraining.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", _by_channel(mean), persistent=False)
        self.register_buffer("deviation", _by_channel(deviation), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images."""
        return (images - self.mean) / self.deviation


class Resize(nn.Module):
    """Images (n, c, h, w) at another size in pixels, bilinear, smoothed where they shrink."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, c, size, size)."""
        return functional.interpolate(
            images, size=(self._size, self._size), mode="bilinear", antialias=True
        )


def input_layer(network: nn.Module, mode: str, channels: int) -> nn.Module:
    """The identity ("none") or a `Normalise` with the network's own statistics ("pretrained").

    Where images have another number of channels than the pretraining, as grey ones, each takes
    the mean over the pretraining's channels. ValueError if the network says nothing of its
    pretraining.
    """
    if mode == "none":
        return nn.Identity()
    known = getattr(network, "pretrained_cfg", None)
    if not isinstance(known, dict) or "mean" not in known or "std" not in known:
        raise ValueError(
            f"backbone.normalise must be 'none' for a network without known pixel statistics, "
            f"but got {mode!r} for a {type(network).__name__}."
        )
    return Normalise(_fitted(known["mean"], channels), _fitted(known["std"], channels))


def _by_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def _fitted(values: Sequence[float], channels: int) -> list[float]:
    if len(values) == channels:
        return list(values)
    return [sum(values) / len(values)] * channels
