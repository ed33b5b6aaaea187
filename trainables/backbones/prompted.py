"""Where prompts can enter a network: the plain Vision Transformers of timm, as they are."""

from typing import Any

from torch import nn

from trainables.backbones import timm_compat  # noqa: F401  (must precede timm)
from trainables.backbones.info import PromptPlaces

from timm.models.vision_transformer import Attention, VisionTransformer  # isort: skip


def places_of(network: nn.Module) -> PromptPlaces | None:
    """Its blocks, where each has timm's usual attention over all tokens at once; else None.

    Windows, relative positions and convolutions have no place for a prompt, or each another one.
    """
    if not isinstance(network, VisionTransformer):
        return None
    blocks: Any = network.blocks
    if not all(type(getattr(block, "attn", None)) is Attention for block in blocks):
        return None
    position = network.pos_embed is not None and not network.no_embed_class
    return PromptPlaces(len(blocks), network.embed_dim, network.has_class_token and position)
