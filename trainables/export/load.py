"""Loads merged weights into a stock timm network: needs torch, timm, safetensors and this folder.

    from load import load
    network, about = load()
    scores = network(images)  # (n, classes) of floats (n, channels, image_size, image_size)

Images are in [0, 1], less about["mean"] over about["std"] where those are given. Scores stand in
the order of about["class_names"] (None: of the data set's labels in about["labels"]).
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn


def load(folder: Path = Path(__file__).parent) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the network with its weights, in evaluation mode, and what model.json says."""
    about: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    network = _timm_network(about) if about["timm"] else _embedded_network(about)
    network.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    if about["head_norm"]:  # features are normalised, without weights, before the classifier
        linear = network.get_submodule(about["classifier"])
        norm = nn.LayerNorm(linear.in_features, elementwise_affine=False)
        network.set_submodule(about["classifier"], nn.Sequential(norm, linear))
    return network.eval(), about


def _timm_network(about: dict[str, Any]) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(
        about["backbone"],
        pretrained=False,
        num_classes=about["classes"],
        in_chans=about["channels"],
        # Convolutional networks take any size and no such argument.
        **({"img_size": about["image_size"]} if about["sized"] else {}),
    )
    return network


def _embedded_network(about: dict[str, Any]) -> nn.Module:
    """Networks that come with the project: timm's transformer behind an embedding of its own."""
    from trainables.backbones.registry import EMBEDDED

    network = EMBEDDED[about["backbone"]]()
    network.reset_classifier(about["classes"])  # type: ignore[operator]
    return network
