"""What is known of a backbone before it is built, without torch: its layers, sizes, weights."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LayerInfo:
    """A layer that can take branches: its path in the network, its kind, width of its inputs.

    `kind` is "qkv" (a linear layer with the outputs q, k, v side by side), "linear" or "conv"
    (1×1, one group: a linear map over channels). A layer that is not `called` has its weight read
    by the network directly, so that a branch would be passed by.
    """

    path: str
    kind: str
    inputs: int
    called: bool = True


@dataclasses.dataclass(frozen=True)
class BackboneInfo:
    """A backbone: its layers in order, patch size (pixels), whether pretrained weights exist.

    `image_size` is the only one it takes, in pixels, `channels` the number of channels; None
    where it is built for the data's.
    `misfit` says why pretrained weights do not fit the size of the images; None where they do.
    `pixel_statistics` says whether mean and deviation of its pretraining's pixels are known.
    """

    layers: tuple[LayerInfo, ...]
    patch_size: int
    image_size: int | None
    pretrained: bool
    pixel_statistics: bool = False
    channels: int | None = None
    misfit: str | None = None
