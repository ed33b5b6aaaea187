"""Merged weights: what a trial learned as the weights of a stock timm network.

Branches and stacked directions are added into the layers that they belong to, and the heads of
all tasks are one classifier: `load.py` beside the weights puts them into timm's own network.
Prompts stay what they are, and `prompts.py` has the lines that apply them.

    python -m trainables.export.merge CHECKPOINT FOLDER [CHECKPOINT FOLDER …]

Trains nothing and reads no image; a pretrained backbone must be at hand as it was for the trial.
"""

import functools
import hashlib
import inspect
import json
import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from trainables.backbones.adapted import AdaptedBackbone
from trainables.backbones.pixels import Normalise
from trainables.backbones.registry import EMBEDDED
from trainables.config import DataConfig, TrialConfig
from trainables.data.prepare import split_of
from trainables.data.stream import chosen_classes
from trainables.export import load
from trainables.heads import linear_form
from trainables.low_rank.branch import LowRankLinear
from trainables.method import MethodContext, Prompting, adapted_backbone, create_method
from trainables.prompts import applied
from trainables.trainer import CHECKPOINT_NAME

# What reading a checkpoint and building its network can raise.
ERRORS = (
    ValueError, TypeError, OSError, EOFError, RuntimeError, LookupError, AttributeError,
    pickle.UnpicklingError,
)  # fmt: skip
WEIGHTS, ABOUT, LOADER, PROMPTS = "model.safetensors", "model.json", "load.py", "prompts.py"


def export(checkpoint: Path, folder: Path) -> None:
    """Writes the merged weights of a checkpoint, what is known of them and how to load them.

    ValueError if the checkpoint is not of this version, or its backbone is not at hand. OSError
    if a file cannot be read or written.
    """
    state = torch.load(checkpoint / CHECKPOINT_NAME, map_location="cpu", weights_only=True)
    weights, about = merged(state)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    sha256 = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    text = json.dumps({**about, "sha256": sha256}, indent=1, ensure_ascii=False)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")
    shutil.copyfile(str(load.__file__), folder / LOADER)
    if "prompts" in about:
        shutil.copyfile(str(applied.__file__), folder / PROMPTS)


@torch.no_grad()
def merged(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a checkpoint by timm's names, with the classifier, and what `load.py` must know.

    ValueError if the checkpoint cannot be of this release. RuntimeError if pretrained weights
    are not at hand.
    """
    config = TrialConfig.from_params(state["params"])
    device = torch.device("cpu")
    model = adapted_backbone(config)
    # The method holds what is not the model's: open branches, or a mean of closed ones.
    generator = torch.Generator()
    sizes = config.data.task_sizes
    context = MethodContext(model, len(sizes), device, generator, config.diagnostics, sizes)
    method = create_method(config.method, context)
    model.load_changes(state["model"], method.trains_backbone)
    method.load_state_dict(state["method"])
    form = linear_form(state["method"], state["params"])
    names = _classifier_names(model.network)
    weights = _network_weights(model)
    last = ""
    if form.projection is not None:
        if len(names) > 1:
            raise ValueError(
                f"method.head_projection must be null for exported weights of "
                f"{config.backbone.name}, which averages the scores of two classifiers, "
                f"but it is {form.projection.shape[1]}."
            )
        last = ".2"  # a linear layer, the ReLU, and this
        weights[f"{names[0]}.0.weight"] = form.projection.T
    for name in names:
        weights |= {f"{name}{last}.weight": form.weight.clone()}
        weights |= {f"{name}{last}.bias": form.bias.clone()}
    about = _about(config, model, state, names, len(form.bias))
    about |= {"scores": form.scores, "random_features": form.projection is not None}
    if isinstance(method, Prompting):
        tensors, about["prompts"] = method.exported(model)
        weights |= {f"prompts.{name}": tensor for name, tensor in tensors.items()}
    return {key: tensor.detach().clone().contiguous() for key, tensor in weights.items()}, about


def _network_weights(model: AdaptedBackbone) -> dict[str, Tensor]:
    """The network's weights by the names that it has without branches."""
    weights = dict(model.network.state_dict())
    for path, layer in model.network.named_modules():
        if isinstance(layer, LowRankLinear):
            for key in [key for key in weights if key.startswith(f"{path}.")]:
                del weights[key]
            whole = layer.weight + layer.delta()
            weights[f"{path}.weight"] = whole.view(layer.base.weight.shape)
            if layer.base.bias is not None:
                weights[f"{path}.bias"] = layer.base.bias
    return weights


def _classifier_names(network: torch.nn.Module) -> list[str]:
    """Where timm puts the classifier: says its pretrained config, else as its transformers do.

    Distilled networks have two, whose scores are averaged as the trial's features are: both get
    the same weights.
    """
    known = getattr(network, "pretrained_cfg", None) or {}
    said = known.get("classifier") or "head"
    names = []
    for name in [said] if isinstance(said, str) else said:
        # As LeViT, where a batch norm precedes the linear layer: `load.py` leaves it out.
        whole = re.sub(r"\.(l|linear)$", "", name)
        # As Swin and ConvNeXt, whose head is a module of several layers.
        nested = hasattr(network.get_submodule(whole), "fc")
        names.append(f"{whole}.fc" if nested else whole)
    return names


def _about(
    config: TrialConfig,
    model: AdaptedBackbone,
    state: dict[str, Any],
    names: list[str],
    classes: int,
) -> dict[str, Any]:
    data = config.data
    pixels = [module for module in model.inputs.modules() if isinstance(module, Normalise)]
    order = chosen_classes(data, config.seed, data.info.classes)[:classes].tolist()
    return {
        "backbone": config.backbone.name,
        "timm": config.backbone.name not in EMBEDDED,
        "classifiers": names,
        "classes": classes,
        "channels": data.channels,
        "image_size": config.input_size,
        "sized": "img_size" in inspect.signature(type(model.network)).parameters,
        "head_norm": bool(config.to_params().get("method.head_norm", False)),
        "mean": pixels[0].mean.flatten().tolist() if pixels else None,
        "std": pixels[0].deviation.flatten().tolist() if pixels else None,
        "tasks": len(state["matrix"]),
        "accuracy": state["accuracies"][-1],
        "labels": order,
        "class_names": _class_names(config, order),
        "params": config.to_params(),
    }


def _class_names(config: TrialConfig, labels: list[int]) -> list[str] | None:
    """Names of the classes in the order of the scores; None where files are not at hand."""
    names = _all_class_names(config.data)
    return None if names is None else [names[label] for label in labels]


@functools.lru_cache(maxsize=16)
def _all_class_names(data: DataConfig) -> tuple[str, ...] | None:
    """Kept: the winners of a study share their data, and each read takes half a second."""
    try:
        return split_of(data).class_names
    except (ValueError, OSError):
        return None


def main(arguments: list[str]) -> int:
    """Exports pairs of a checkpoint's folder and a new folder; 1 where one could not be.

    Each that could not is a line "FOLDER: why" on stderr.
    """
    failed = 0
    for checkpoint, folder in zip(arguments[::2], arguments[1::2], strict=True):
        try:
            export(Path(checkpoint), Path(folder))
        # Also what a checkpoint of another release lacks, or weights that are not at hand.
        except ERRORS as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            sys.stderr.write(f"{folder}: {text}\n")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
