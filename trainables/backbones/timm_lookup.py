"""timm networks by name: built, or described without weights; slow to import."""

import contextlib
import difflib
import logging
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainables.backbones import timm_compat  # noqa: F401  (must precede timm)
from trainables.backbones.info import BackboneInfo, LayerInfo
from trainables.backbones.inspection import final_norm, layers_of, watch_calls
from trainables.backbones.prompted import places_of

import timm  # isort: skip

# What timm and torch raise while building or running a network that an image does not fit.
MISFIT = (AssertionError, ArithmeticError, RuntimeError, ValueError)

# In place, and nothing but values: the longest part of building a network without any.
VALUES = (Tensor.clamp_, Tensor.erfinv_, Tensor.normal_, Tensor.uniform_)


class _WithoutValues(TorchFunctionMode):
    """Skips the start values of tensors on the meta device, which have none."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in VALUES and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


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
    sized = {"img_size": image_size} if _takes_image_size(name, image_size) else {}
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
def describe(name: str, embedded: tuple[str, ...], image_size: int, channels: int) -> BackboneInfo:
    """Looks an image model up in timm and runs it on the meta device, without weights.

    ValueError if timm has no such model (close names are listed), it does not take images of
    `channels` × `image_size` × `image_size` pixels, its features aren't vectors, or it has
    several classifiers that see other things than its features.
    """
    known = _pretrained_cfg(name, embedded)
    try:
        with torch.device("meta"), _WithoutValues():
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
    _check_classifiers(name, known, network, features.shape[1])
    return BackboneInfo(
        layers=layers,
        patch_size=_patch_size(network),
        image_size=None,
        pretrained=bool(known is not None and known.has_weights),
        pixel_statistics=known is not None,
        misfit=_misfit(name, image_size, channels) if known and known.has_weights else None,
        prompts=places_of(network),
        final_norm=final_norm(network) is not None,
    )


@cache
def _takes_image_size(name: str, image_size: int) -> bool:
    """Whether a model is built for images of a size; convolutions are not."""
    try:
        with torch.device("meta"), _WithoutValues():
            timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return False
    except MISFIT:
        # It is asked for again, and the error is said then.
        return True
    return True


def _misfit(name: str, image_size: int, channels: int) -> str | None:
    """Why weights as timm keeps them do not fit images of a size; None where they do.

    What timm would load is loaded without values: it resamples what it knows to resample.
    """
    if not _takes_image_size(name, image_size):
        return None
    with torch.device("meta"), _WithoutValues(), _unsaid():
        weights = timm.create_model(name, pretrained=False).state_dict()
        try:
            create_timm_network(name, image_size, channels, True, overlay={"state_dict": weights})
        except RuntimeError as error:
            mismatch = [line for line in str(error).splitlines() if "size mismatch" in line]
            # Anything else is of this way to find out, which has no values.
            return mismatch[0].strip().partition(": copying")[0] if mismatch else None
    return None


@contextlib.contextmanager
def _unsaid() -> Iterator[None]:
    """Keeps to itself what timm has to say of weights that nobody asked for.

    Without a handler of its own, its words would go to the terminal.
    """
    logger = logging.getLogger("timm")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _check_classifiers(name: str, known: Any, network: nn.Module, width: int) -> None:
    """Refuses a model with several classifiers that see other things than its features.

    `network` is the model without them. Where all see the features, one can stand for each.
    """
    names = getattr(known, "classifier", None)
    if not isinstance(names, tuple | list):
        return
    with torch.device("meta"), _WithoutValues():
        whole = timm.create_model(name, pretrained=False, num_classes=2)
    for place in names:
        layer = whole.get_submodule(place)
        if getattr(layer, "in_features", width) != width:
            found = f"{place} sees {layer.in_features} of {width} features"
        elif getattr(network, place.partition(".")[0]) is None:
            found = f"the scores of {place} are of other features"
        else:
            continue
        raise ValueError(
            f"backbone.name must be a model whose classifiers see its features, but of the "
            f"{len(names)} of {name} {found}."
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
    known = {info.path: info for info in layers_of(network)}
    modules = {path: network.get_submodule(path) for path in known}
    with torch.no_grad(), watch_calls(modules) as called:
        features = network(images)
    layers = tuple(
        LayerInfo(path, info.kind, info.inputs, called=path in called)
        for path, info in known.items()
    )
    return layers, features


def _patch_size(network: nn.Module) -> int:
    """Pixels from one patch to the next; 1 for a network without a patch embedding."""
    embedding = getattr(network, "patch_embed", None)
    size: Any = getattr(embedding, "patch_size", 1)
    # Overlapping patches are wider than the step between them.
    size = getattr(getattr(embedding, "proj", None), "stride", size)
    return size if isinstance(size, int) else max(size)
