"""Loads merged weights into a stock timm network: needs torch, timm, safetensors and this folder.

    from load import load
    network, about = load()
    scores = network(images)  # (n, classes) of floats (n, channels, image_size, image_size)

Images are in [0, 1], less about["mean"] over about["std"] where those are given. Scores stand in
the order of about["class_names"] (None: of the data set's labels in about["labels"]).
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

_KEPT: list[torch.library.Library] = []


def load(folder: Path = Path(__file__).parent) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the network with its weights, in evaluation mode, and what model.json says."""
    about: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    network = _timm_network(about) if about["timm"] else _embedded_network(about)
    weights = load_file(folder / "model.safetensors")
    own = [key for key in weights if key.startswith("prompts.")]
    prompts = {key.removeprefix("prompts."): weights.pop(key) for key in own}
    for name in about["classifiers"]:
        if about["random_features"]:
            wide, width = weights[f"{name}.0.weight"].shape
            last = nn.Linear(wide, about["classes"])
            first = nn.Linear(width, wide, bias=False)
            network.set_submodule(name, nn.Sequential(first, nn.ReLU(), last))
            continue
        # As LeViT, whose classifier has a batch norm that the trial's features did not pass.
        if hasattr(network.get_submodule(name), "bn"):
            width = weights[f"{name}.weight"].shape[1]
            network.set_submodule(name, nn.Linear(width, about["classes"]))
    network.load_state_dict(weights, strict=True)
    for name in about["classifiers"] if about["head_norm"] else ():
        # Features are normalised, without weights, before the classifier.
        classifier = network.get_submodule(name)
        reads: Any = classifier[0] if isinstance(classifier, nn.Sequential) else classifier
        norm = nn.LayerNorm(reads.in_features, elementwise_affine=False)
        network.set_submodule(name, nn.Sequential(norm, classifier))
    if prompts:
        network = _with_prompts(network, prompts, about["prompts"], folder / "prompts.py")
    return network.eval(), about


def _with_prompts(
    network: nn.Module, prompts: dict[str, torch.Tensor], how: dict[str, Any], path: Path
) -> nn.Module:
    """The network as `prompts.py` beside this file runs it."""
    spec = importlib.util.spec_from_file_location("prompts", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} must be there, since the weights have prompts.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    prompted: nn.Module = module.PromptedNetwork(network, prompts, how)
    return prompted


def _timm_network(about: dict[str, Any]) -> nn.Module:
    # timm imports torchvision, which beside a torch for CPUs lacks two operators. Nothing here
    # calls them; their library is kept, since they go with it.
    if torch.version.cuda is None and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
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
