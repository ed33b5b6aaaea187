"""What is known of a backbone before it is built, without torch: its layers, sizes, weights."""

import dataclasses
from collections.abc import Sequence


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
class PromptPlaces:
    """Where prompts can enter a plain Vision Transformer of `blocks` blocks over tokens of `width`.

    `class_position` says whether it has a position embedding of a class token.
    """

    blocks: int
    width: int
    class_position: bool

    def check_blocks(self, key: str, blocks: Sequence[int]) -> None:
        """Refuses `blocks` that a method's `key` names and that there are not, or twice."""
        known = all(0 <= block < self.blocks for block in blocks)
        if not blocks or not known or len(set(blocks)) != len(blocks):
            raise ValueError(
                f"method.{key} must be different numbers in [0, {self.blocks - 1}], the blocks of "
                f"the network, but got {list(blocks)}."
            )


@dataclasses.dataclass(frozen=True)
class BackboneInfo:
    """A backbone: its layers in order, patch size (pixels), whether pretrained weights exist.

    `image_size` is the only one it takes, in pixels, `channels` the number of channels; None
    where it is built for the data's.
    `misfit` says why pretrained weights do not fit the size of the images; None where they do.
    `pixel_statistics` says whether mean and deviation of its pretraining's pixels are known.
    `prompts` is None where a network takes none. `final_norm` says whether it ends with a layer
    normalisation.
    """

    layers: tuple[LayerInfo, ...]
    patch_size: int
    image_size: int | None
    pretrained: bool
    pixel_statistics: bool = False
    channels: int | None = None
    misfit: str | None = None
    prompts: PromptPlaces | None = None
    final_norm: bool = True
