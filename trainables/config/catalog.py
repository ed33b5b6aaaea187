"""What exists by name: data sets, backbones and methods, without importing torch.

A study file is checked against this in about a second.
"""

from types import MappingProxyType

from trainables.backbones.info import BackboneInfo, LayerInfo, PromptPlaces
from trainables.config.methods import declaration as declaration
from trainables.config.methods import methods as methods
from trainables.config.names import one_of
from trainables.data_sets import known
from trainables.data_sets.known import DATASETS, DatasetInfo


def _block(path: str, width: int, mlp_ratio: int) -> tuple[LayerInfo, ...]:
    """The linear layers of a transformer block of timm."""
    return (
        LayerInfo(f"{path}.attn.qkv", "qkv", width),
        LayerInfo(f"{path}.attn.proj", "linear", width),
        LayerInfo(f"{path}.mlp.fc1", "linear", width),
        LayerInfo(f"{path}.mlp.fc2", "linear", mlp_ratio * width),
    )


def _blocks(path: str, count: int, width: int, mlp_ratio: int = 4) -> tuple[LayerInfo, ...]:
    return tuple(
        layer for index in range(count) for layer in _block(f"{path}.{index}", width, mlp_ratio)
    )


COMPACT_VIT = (LayerInfo("patch_embed.stem.13", "conv", 128), *_blocks("blocks", 4, 160))
TEST_SWIN = (
    *_blocks("layers.0.blocks", 1, 16),
    LayerInfo("layers.1.downsample.reduction", "linear", 64),
    *_blocks("layers.1.blocks", 2, 32),
)
TEST_CONVNEXT = (
    LayerInfo("stem.0", "conv", 1),
    *(
        LayerInfo(f"stages.{stage}.blocks.0.mlp.{layer}", "linear", factor * width)
        for stage, width in enumerate((16, 16, 32, 32))
        for layer, factor in (("fc1", 1), ("fc2", 4))
    ),
)
BACKBONES = MappingProxyType(
    {
        **{
            name: BackboneInfo(
                layers,
                8,
                image_size=32,
                pretrained=True,
                channels=1,
                prompts=PromptPlaces(blocks, 160, class_position=False),
            )
            for name, layers, blocks in (
                ("compact_vit", COMPACT_VIT, 4),
                ("plain_vit", _blocks("blocks", 8, 160, mlp_ratio=1), 8),
            )
        },
        **{
            name: BackboneInfo(
                layers, patch, image_size=8, pretrained=False, channels=1, prompts=prompts
            )
            for name, layers, patch, prompts in (
                ("test_vit", _blocks("blocks", 2, 16), 4, PromptPlaces(2, 16, True)),
                ("test_swin", TEST_SWIN, 2, None),
                ("test_convnext", TEST_CONVNEXT, 1, None),
            )
        },
    }
)

# The network of the published numbers, as timm describes it: study files that name it are checked
# without timm, which takes seconds.
VIT_BASE = BackboneInfo(
    _blocks("blocks", 12, 768),
    16,
    image_size=None,
    pretrained=True,
    pixel_statistics=True,
    prompts=PromptPlaces(12, 768, class_position=True),
)
PUBLISHED = MappingProxyType(
    {
        "vit_base_patch16_224.augreg_in21k": VIT_BASE,
        "vit_base_patch16_224.augreg2_in21k_ft_in1k": VIT_BASE,
    }
)


def dataset(
    name: str, root: str | None = None, split: str | None = None, manifest: str | None = None
) -> DatasetInfo:
    """Looks a data set up, own images below `root`; ValueError where it or its files are not."""
    if known.generic_name(name) is not None:
        # Only here: most studies use what is known without looking at files.
        from trainables.data_sets.file_sets import describe

        return describe(name, root, split, manifest)
    if name not in DATASETS:
        raise ValueError(one_of("data.name", name, DATASETS, ", folder:NAME or npz:NAME"))
    return DATASETS[name]


def backbone(name: str, image_size: int, channels: int) -> BackboneInfo:
    """Looks a backbone up: one that is known here at once, any other through timm (seconds).

    ValueError if neither this project nor timm has it, or it does not take images of `channels`
    × `image_size` × `image_size` pixels.
    """
    if name in BACKBONES:
        info = BACKBONES[name]
        if info.channels not in (None, channels):
            raise ValueError(
                f"backbone.name {name} takes images of {info.channels} channels, but the data "
                f"have {channels}; data.grey: true makes coloured images grey."
            )
        return info
    if name in PUBLISHED:
        return PUBLISHED[name]
    # Only here, since timm takes seconds to import and most studies use what is known here.
    from trainables.backbones.timm_lookup import describe

    return describe(name, tuple(BACKBONES), image_size, channels)
