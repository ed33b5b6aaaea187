"""Building timm's networks without their classifier, for the images that the data has."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from trainables import timm_compat  # noqa: F401  (must precede timm)

import timm  # isort: skip


def create_timm_network(
    name: str,
    image_size: int,
    channels: int,
    pretrained: bool,
    classes: int = 0,
    overlay: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Creates a timm model for images (n, channels, image_size, image_size).

    `classes` is the width of its classifier, without one (0) it gives features; `overlay`
    replaces entries of its pretrained configuration (timm's `pretrained_cfg_overlay`).
    """
    # timm resamples position embeddings and windows, but only where it is told the size.
    sized = {"img_size": image_size} if _takes_image_size(name) else {}
    network: nn.Module = timm.create_model(
        name,
        pretrained=pretrained,
        pretrained_cfg_overlay=None if overlay is None else dict(overlay),
        num_classes=classes,
        in_chans=channels,
        **sized,
    )
    return network


@cache
def _takes_image_size(name: str) -> bool:
    """Whether the class of a model has `img_size` in its signature; convolutions do not."""
    with torch.device("meta"):
        prototype = timm.create_model(name, pretrained=False, num_classes=0)
    return "img_size" in inspect.signature(type(prototype)).parameters
