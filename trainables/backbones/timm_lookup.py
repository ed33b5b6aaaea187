"""What timm says of a backbone by name: slow to import, so only asked for names not embedded."""

import difflib
from functools import cache

import torch

from trainables import timm_compat  # noqa: F401  (must precede timm)
from trainables.catalog import BackboneInfo

import timm  # isort: skip
from timm.models.vision_transformer import VisionTransformer  # isort: skip


@cache
def describe(name: str, embedded: tuple[str, ...]) -> BackboneInfo:
    """Looks a vision transformer up in timm, without its weights.

    Raises:
        ValueError: if timm has no such model (close names are listed) or it is not a vision
            transformer with fused qkv attention.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, [*embedded, *timm.list_models()], n=3)
        hint = f" Close names: {close}." if close else ""
        raise ValueError(
            f"backbone.name must be one of {sorted(embedded)} or a timm model, "
            f"but got {name!r}.{hint}"
        )
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False, num_classes=0)
    if not isinstance(model, VisionTransformer):
        raise ValueError(
            f"backbone.name must be a timm VisionTransformer, "
            f"but {name!r} is a {type(model).__name__}."
        )
    return BackboneInfo(
        width=model.embed_dim,
        patch_size=max(model.patch_embed.patch_size),
        image_size=None,
        pretrained=bool(timm.list_pretrained(name)) or "." in name,
    )
