"""The keys `backbone.…`: which network a trial adapts, and which of its layers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class BackboneConfig:
    """The pretrained network and which of its layers take branches."""

    name: str = "compact_vit"
    """An embedded backbone, or any model of timm."""
    pretrained: bool = True
    """Whether it has pretrained weights: timm's, or those of `checkpoint`."""
    checkpoint: str | None = None
    """Absolute path of a file of weights (safetensors or torch)."""
    layers: tuple[str, ...] | None = None
    """Globs over the paths of linear layers and 1×1 convolutions (None: the method's own, else the
    fused qkv of all attention; where there is none, the MLPs' linear layers; then 1×1
    convolutions)."""
    adapt: tuple[str, ...] | None = None
    """Slices of a fused qkv that take branches: some of q, k and v, or qkv as one (None: the
    method's own)."""
    blocks: str | tuple[int, ...] = "all"
    """Which blocks take branches: "all", "first:N" or a list of numbers."""
    image_size: int | None = None
    """Pixels that images are resized to for the network (None: the data's size stays)."""
    normalise: Literal["none", "pretrained"] = "none"
    """Feeds pixels in [0, 1] as both papers do ("none"), or as in the pretraining."""

    def __post_init__(self) -> None:
        if self.checkpoint is not None:
            _check_checkpoint(Path(self.checkpoint), self.pretrained)
        if self.adapt is None or self.adapt == ("qkv",):
            return
        if not self.adapt or set(self.adapt) - {"q", "k", "v"}:
            raise ValueError(
                f"backbone.adapt must be a non-empty list of 'q', 'k', 'v', or ['qkv'], or null, "
                f"but got {list(self.adapt)}."
            )


def _check_checkpoint(path: Path, pretrained: bool) -> None:
    """Refuses a file that cannot be the weights of a pretrained network."""
    if not pretrained:
        raise ValueError("backbone.pretrained must be true with backbone.checkpoint.")
    if not path.is_absolute() or not path.is_file():
        raise ValueError(
            f"backbone.checkpoint must be the absolute path of a file, but got {str(path)!r}."
        )
