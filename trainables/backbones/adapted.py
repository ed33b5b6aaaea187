"""A stock timm backbone whose linear layers or 1×1 convolutions take low-rank branches."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainables.backbones import selection
from trainables.backbones.inspection import layers_of, watch_calls
from trainables.backbones.pixels import Resize, input_layer
from trainables.backbones.registry import create_network
from trainables.catalog import LayerInfo
from trainables.config import OptimConfig, TrialConfig
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.precision import computing


class AdaptedBackbone(nn.Module):
    """Maps images (n, c, h, w) in [0, 1] to features (n, width); `layers` are the adapted ones.

    `inputs` turns pixels into what `network` was pretrained on, or is the identity. `precision`
    is that of `OptimConfig`; features are of the images' type with either. `calls` is how often
    a forward pass calls a layer of `layers`, in all (None: not known).
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Mapping[str, LowRankLinear],
        width: int,
        inputs: nn.Module,
        precision: str = OptimConfig.precision,
        calls: int | None = None,
    ) -> None:
        super().__init__()
        self.calls = calls
        self.precision = precision
        self.inputs = inputs
        self.network = network
        self.layers = dict(layers)
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch."""
        return self._features(images, self.precision)

    def in_float32(self, images: Tensor) -> Tensor:
        """Features of a batch with precision "float32", whatever `precision` is.

        For passes that decide which directions a layer takes or keeps: nothing may depend on it.
        """
        return self._features(images, "float32")

    def changes(self, everything: bool) -> dict[str, Any]:
        """What training changed: adapted layers only, or the whole network."""
        if everything:
            return {name: value.detach().clone() for name, value in self.state_dict().items()}
        return {name: layer.changes() for name, layer in self.layers.items()}

    def load_changes(self, state: dict[str, Any], everything: bool) -> None:
        """Takes over what `changes` gave."""
        if everything:
            self.load_state_dict(state)
            return
        for name, layer in self.layers.items():
            layer.load_changes(state[name])

    def _features(self, images: Tensor, precision: str) -> Tensor:
        with computing(images.device, precision):
            features = self.network(self.inputs(images))
        if not isinstance(features, Tensor):
            raise TypeError(f"the backbone must return a tensor, but gave {type(features)}.")
        return features.to(images.dtype)


def build_backbone(config: TrialConfig, adapt: tuple[str, ...]) -> AdaptedBackbone:
    """Builds the network and wraps the layers that `config.backbone` selects.

    A fused qkv takes branches on the slices in `adapt`, any other layer on all of its outputs.
    The seed only matters for networks without pretrained weights.

    Raises:
        ValueError: if nothing is selected, the network does not call a selected layer, or
            `config.backbone.checkpoint` does not hold its weights.
    """
    chosen = config.backbone
    channels = config.data.channels
    size = config.input_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = create_network(
            chosen.name, chosen.pretrained, chosen.checkpoint, size, channels
        ).eval()
    selected = selection.select(layers_of(network), chosen.layers, chosen.blocks)
    layers = insert_branches(network, selected, adapt)
    with watch_calls(layers) as called:
        width = feature_width(network, selected, torch.zeros(1, channels, size, size))
    inputs = input_layer(network, chosen.normalise, channels)
    if size != config.data.image_size:
        inputs = nn.Sequential(Resize(size), inputs)
    precision = config.optim.precision
    return AdaptedBackbone(network, layers, width, inputs, precision, len(called)).eval()


def insert_branches(
    network: nn.Module, selected: Mapping[str, LayerInfo], adapt: Sequence[str]
) -> dict[str, LowRankLinear]:
    """Puts a `LowRankLinear` around each selected layer, in place, and returns them by name."""
    layers = {}
    for name, info in selected.items():
        base = network.get_submodule(info.path)
        if not isinstance(base, nn.Linear | nn.Conv2d):
            raise TypeError(f"{info.path} must be a linear layer or convolution: {type(base)}.")
        width = base.weight.shape[0] // (3 if info.kind == "qkv" else 1)
        rows = {one: slice(i * width, (i + 1) * width) for i, one in enumerate(selection.QKV)}
        rows["all"] = slice(0, width)
        layers[name] = LowRankLinear(
            base, {one: rows[one] for one in selection.slices_of(info, adapt)}
        )
        owner, _, attribute = info.path.rpartition(".")
        setattr(network.get_submodule(owner), attribute, layers[name])
    return layers


@torch.no_grad()
def feature_width(network: nn.Module, selected: Mapping[str, LayerInfo], images: Tensor) -> int:
    """Width of the features of `images`, from a run that must call every selected layer.

    Raises:
        ValueError: if it does not, or features are not vectors.
    """
    modules = {one.path: network.get_submodule(one.path) for one in selected.values()}
    with watch_calls(modules) as called:
        features = network(images)
    selection.refuse_idle([path for path in modules if path not in called])
    if features.ndim != 2:
        raise ValueError(
            f"the backbone must give features (n, width), but gave {tuple(features.shape)}."
        )
    return int(features.shape[1])
