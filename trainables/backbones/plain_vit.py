"""A plain small transformer: timm's VisionTransformer behind three light convolutions."""

from pathlib import Path
from typing import cast

import torch
from torch import nn

from trainables.backbones import timm_compat  # noqa: F401  # isort: skip  (must come before timm)
from timm.models.vision_transformer import VisionTransformer

from trainables.backbones.weights import load_embedded

WEIGHTS_FILE = Path(__file__).with_name("plain_vit.safetensors")
IMAGE_SIZE = 32
WIDTH = 160
DEPTH = 8
HEADS = 5
STRIDE = 8  # pixels per token side: 32 px make 4 × 4 tokens


def create_plain_vit(pretrained: bool = True) -> nn.Module:
    """Return the network in evaluation mode; it maps (n, 1, 32, 32) to features (n, 160).

    Pixels are grey in [0, 1], as read from a file and divided by 255. Most of the work is done in
    blocks, whose layers take branches; the MLPs are as wide as the tokens, so that half of a
    block's weights are those of its fused qkv. Features are the normed mean over the 16 tokens.
    Attention is fused on a GPU only, as in `compact_vit`.
    """
    model = VisionTransformer(
        img_size=IMAGE_SIZE,
        patch_size=STRIDE,
        in_chans=1,
        num_classes=0,
        global_pool="avg",
        class_token=False,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=1.0,
        embed_layer=LightPatchEmbed,
    )
    model.register_forward_pre_hook(choose_attention)
    if pretrained:
        load_embedded(model, WEIGHTS_FILE)
    return cast(nn.Module, model.eval())


class LightPatchEmbed(nn.Module):
    """Three 3 × 3 convolutions of stride 2, standing in for timm's patch embedding.

    Maps (n, 1, 32, 32) to tokens (n, 16, embed_dim). The signature is the one that timm calls.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        bias: bool = True,
        dynamic_img_pad: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if patch_size != STRIDE or img_size % STRIDE or dynamic_img_pad:
            raise ValueError(
                f"patches must be {STRIDE} pixels wide and tile the image, "
                f"but got {patch_size=}, {img_size=}, {dynamic_img_pad=}."
            )
        self.img_size = (img_size, img_size)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size // STRIDE, img_size // STRIDE)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.stem = nn.Sequential(
            *_downsample(in_chans, 32),
            *_downsample(32, 64),
            nn.Conv2d(64, embed_dim, 3, stride=2, padding=1, bias=bias),
        ).to(device=device, dtype=dtype)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the tokens (n, 16, embed_dim) of `images` (n, 1, 32, 32) in [0, 1]."""
        # Around the middle grey: inverted images are as far from it.
        return cast(torch.Tensor, self.stem(2.0 * images - 1.0)).flatten(2).transpose(1, 2)


def choose_attention(model: nn.Module, images: tuple[torch.Tensor, ...]) -> None:
    """Fuses attention where the images are on a GPU: its backward pass is slow on a CPU."""
    for block in cast(VisionTransformer, model).blocks:
        block.attn.fused_attn = images[0].device.type == "cuda"


def _downsample(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU()
