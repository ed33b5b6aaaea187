"""What exists by name: data sets, backbones and methods, without importing torch.

A study file is checked against this in about a second. Methods are found by their files and
their declarations are read from the source, so that adding a method registers nothing here.
"""

import dataclasses
from types import MappingProxyType

from trainables.data import known
from trainables.data.known import DATASETS, DatasetInfo
from trainables.method_files import method_config, method_file, methods

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "backbone",
    "dataset",
    "method_config",
    "method_file",
    "methods",
]


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
    `pixel_statistics` says whether mean and deviation of its pretraining's pixels are known.
    """

    layers: tuple[LayerInfo, ...]
    patch_size: int
    image_size: int | None
    pretrained: bool
    pixel_statistics: bool = False
    channels: int | None = None


def _linear(path: str, inputs: int) -> LayerInfo:
    return LayerInfo(path, "linear", inputs)


def _block(path: str, width: int) -> tuple[LayerInfo, ...]:
    """The linear layers of a transformer block of timm."""
    return (
        LayerInfo(f"{path}.attn.qkv", "qkv", width),
        _linear(f"{path}.attn.proj", width),
        _linear(f"{path}.mlp.fc1", width),
        _linear(f"{path}.mlp.fc2", 4 * width),
    )


def _blocks(path: str, count: int, width: int) -> tuple[LayerInfo, ...]:
    return tuple(one for index in range(count) for one in _block(f"{path}.{index}", width))


BACKBONES = MappingProxyType(
    {
        "compact_vit": BackboneInfo(
            (LayerInfo("patch_embed.stem.13", "conv", 128), *_blocks("blocks", 4, 160)),
            patch_size=8,
            image_size=32,
            pretrained=True,
            channels=1,
        ),
        "test_vit": BackboneInfo(
            _blocks("blocks", 2, 16), 4, image_size=8, pretrained=False, channels=1
        ),
        "test_swin": BackboneInfo(
            (
                *_blocks("layers.0.blocks", 1, 16),
                _linear("layers.1.downsample.reduction", 64),
                *_blocks("layers.1.blocks", 2, 32),
            ),
            patch_size=2,
            image_size=8,
            pretrained=False,
            channels=1,
        ),
        "test_convnext": BackboneInfo(
            (
                LayerInfo("stem.0", "conv", 1),
                *(
                    _linear(f"stages.{stage}.blocks.0.mlp.{layer}", factor * width)
                    for stage, width in enumerate((16, 16, 32, 32))
                    for layer, factor in (("fc1", 1), ("fc2", 4))
                ),
            ),
            patch_size=1,
            image_size=8,
            pretrained=False,
            channels=1,
        ),
    }
)


def dataset(
    name: str, root: str | None = None, split: str | None = None, manifest: str | None = None
) -> DatasetInfo:
    """Looks a data set up; of "folder:NAME" and "npz:NAME" the files below `root` are listed.

    Raises:
        ValueError: if there is none of that name, or its files are not there or wrong.
    """
    if known.generic_name(name) is not None:
        # Only here: most studies use what is known without looking at files.
        from trainables.data.file_sets import describe

        return describe(name, root, split, manifest)
    if name not in DATASETS:
        raise ValueError(
            f"data.name must be one of {sorted(DATASETS)}, folder:NAME or npz:NAME, "
            f"but got {name!r}."
        )
    return DATASETS[name]


def backbone(name: str, image_size: int, channels: int) -> BackboneInfo:
    """Looks a backbone up: an embedded one at once, any other through timm (seconds).

    Raises:
        ValueError: if neither this project nor timm has it, or it does not take images of
            `channels` × `image_size` × `image_size` pixels.
    """
    if name in BACKBONES:
        info = BACKBONES[name]
        if info.channels not in (None, channels):
            raise ValueError(
                f"backbone.name {name} takes images of {info.channels} channels, but the data "
                f"have {channels}; data.grey: true makes coloured images grey."
            )
        return info
    # Only here, since timm takes seconds to import and most studies use what is embedded.
    from trainables.backbones.timm_lookup import describe

    return describe(name, tuple(BACKBONES), image_size, channels)
