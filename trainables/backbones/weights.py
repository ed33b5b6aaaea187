"""Weights of a network from a local file, converted by timm where names or sizes differ."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.backbones import timm_compat  # noqa: F401  (must precede timm)
from trainables.backbones.efficientnet_names import timm_names
from trainables.backbones.timm_lookup import create_timm_network

import timm  # isort: skip

WRAPPERS = ("state_dict", "model")  # keys under which training scripts store the weights
SHOWN = 160  # characters of each kind of mismatch


def load_checkpoint(
    network: nn.Module, path: Path, name: str, image_size: int, channels: int, by_timm: bool
) -> None:
    """Loads the weights in `path` into `network`, the model `name` without a classifier.

    A file with the network's own names and shapes is loaded as it is. Any other goes through
    what timm does with pretrained weights, if `by_timm`: names of the original releases are
    translated, position embeddings and windows are resampled to `image_size`, the first layer
    is fitted to `channels`, a classifier is dropped. ValueError if the file cannot be read, or
    weights are missing, left over or of another shape.
    """
    weights = read_weights(path)
    try:
        if by_timm:
            weights = timm_names(weights, network)
            if not _same_shapes(weights, network.state_dict()):
                weights = _converted(weights, network, name, image_size, channels)
        network.load_state_dict(weights)
    except (AssertionError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"backbone.checkpoint must hold the weights of {name}, but {path} does not: "
            f"{_summary(error)}"
        ) from error


def load_embedded(network: nn.Module, path: Path) -> None:
    """Loads weights that come along, all floating-point entries of `network` in half precision."""
    state = {name: value.float() for name, value in load_file(path).items()}
    # The counters of batch norm are integers; they are not stored and mean nothing here.
    initial = network.state_dict()
    counters = {key: value for key, value in initial.items() if not value.is_floating_point()}
    network.load_state_dict(state | counters)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file or one of torch (no code is run); else ValueError."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"backbone.checkpoint must be a file of safetensors or of torch without code, "
            f"but {path} could not be read: {_summary(error)}"
        ) from error
    while isinstance(state, dict) and any(isinstance(state.get(key), dict) for key in WRAPPERS):
        state = next(state[key] for key in WRAPPERS if isinstance(state.get(key), dict))
    if not isinstance(state, dict) or not state:
        raise ValueError(
            f"backbone.checkpoint must hold tensors by name, but {path} holds "
            f"{type(state).__name__ if state else 'none'}."
        )
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"backbone.checkpoint must hold tensors by name, but {path} has a "
                f"{type(value).__name__} at {key!r}."
            )
    # Weights saved from inside DistributedDataParallel carry its attribute's name.
    return {key.removeprefix("module."): value for key, value in state.items()}


def _converted(
    weights: dict[str, Tensor], network: nn.Module, name: str, image_size: int, channels: int
) -> dict[str, Tensor]:
    """What timm makes of `weights`, by the names of `network`.

    timm checks names only if the file has as many classes as the model, so it gets a model with
    the file's classifier, which is then left behind.
    """
    classes = next((len(weights[key]) for key in _classifier_keys(name) if key in weights), 0)
    overlay: dict[str, Any] = {"state_dict": weights, "num_classes": classes, "label_offset": 0}
    whole = create_timm_network(
        name, image_size, channels, pretrained=True, classes=classes, overlay=overlay
    )
    state = whole.state_dict()
    return {key: state[key] for key in network.state_dict()}


def _classifier_keys(name: str) -> list[str]:
    """Names that a classifier's weight may have: timm's, or what original releases call it."""
    known = timm.get_pretrained_cfg(name)
    layers = known.classifier if known is not None and known.classifier else ()
    layers = (layers,) if isinstance(layers, str) else layers
    return [f"{path}.weight" for layer in layers for path in (layer, layer.partition(".")[0])]


def _same_shapes(weights: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    return weights.keys() == own.keys() and all(
        value.shape == own[key].shape for key, value in weights.items()
    )


def _summary(error: Exception) -> str:
    """The lines of a message of torch, without its heading, each cut to the first few names."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    shown = lines[1:4] or lines or [type(error).__name__]
    return " ".join(line if len(line) <= SHOWN else f"{line[:SHOWN]} …" for line in shown)
