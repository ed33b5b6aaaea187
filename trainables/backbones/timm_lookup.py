"""What timm says of a backbone by name: slow to import, so only asked for names not embedded."""

import difflib
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from trainables import timm_compat  # noqa: F401  (must precede timm)
from trainables.backbones.inspection import layers_of, watch_calls
from trainables.backbones.timm_networks import create_timm_network
from trainables.catalog import BackboneInfo, LayerInfo

import timm  # isort: skip

# What timm and torch raise while building or running a network that an image does not fit.
MISFIT = (AssertionError, ArithmeticError, RuntimeError, ValueError)


@cache
def describe(name: str, embedded: tuple[str, ...], image_size: int, channels: int) -> BackboneInfo:
    """Looks an image model up in timm and runs it on the meta device, without weights.

    Raises:
        ValueError: if timm has no such model (close names are listed), it does not take images
            of `channels` × `image_size` × `image_size` pixels, or its features aren't vectors.
    """
    known = _pretrained_cfg(name, embedded)
    try:
        with torch.device("meta"):
            network = create_timm_network(name, image_size, channels, pretrained=False).eval()
            layers, features = _run(network, torch.zeros(1, channels, image_size, image_size))
    except MISFIT as error:
        raise ValueError(
            f"backbone.name must be a model for {channels} × {image_size} × {image_size} images, "
            f"but {name} cannot take them: {str(error).strip().splitlines()[0]}"
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"backbone.name must be a model with one feature vector an image, (1, width), "
            f"but {name} gives {shape}."
        )
    return BackboneInfo(
        layers=layers,
        patch_size=_patch_size(network),
        image_size=None,
        pretrained=bool(known is not None and known.has_weights),
        pixel_statistics=known is not None,
    )


def _pretrained_cfg(name: str, embedded: tuple[str, ...]) -> Any:
    """What timm records of the model's weights, None where it has none."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, [*embedded, *timm.list_models()], n=3)
        hint = f" Close names: {close}." if close else ""
        raise ValueError(
            f"backbone.name must be one of {sorted(embedded)} or a timm model, "
            f"but got {name!r}.{hint}"
        )
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        architecture = name.partition(".")[0]
        raise ValueError(
            f"backbone.name must be {architecture} or one of "
            f"{timm.list_pretrained(architecture)}, but got {name!r}."
        ) from error


def _run(network: nn.Module, images: Tensor) -> tuple[tuple[LayerInfo, ...], Any]:
    """The layers, each with whether the network calls it, and the features of `images`."""
    found = {one.path: one for one in layers_of(network)}
    modules = {path: network.get_submodule(path) for path in found}
    with torch.no_grad(), watch_calls(modules) as called:
        features = network(images)
    layers = tuple(
        LayerInfo(path, one.kind, one.inputs, called=path in called) for path, one in found.items()
    )
    return layers, features


def _patch_size(network: nn.Module) -> int:
    """Pixels from one patch to the next; 1 for a network without a patch embedding."""
    embedding = getattr(network, "patch_embed", None)
    size: Any = getattr(embedding, "patch_size", 1)
    # Overlapping patches are wider than the step between them.
    size = getattr(getattr(embedding, "proj", None), "stride", size)
    return size if isinstance(size, int) else max(size)
