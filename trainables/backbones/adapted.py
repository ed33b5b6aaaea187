"""A stock timm backbone whose fused qkv layers take low-rank branches."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables import catalog
from trainables.backbones.registry import create_network
from trainables.config import TrialConfig
from trainables.low_rank.branch import LowRankLinear

QKV = ("q", "k", "v")


class AdaptedBackbone(nn.Module):
    """Maps images (n, c, h, w) in [0, 1] to features (n, width); `layers` are the adapted ones."""

    def __init__(self, network: nn.Module, layers: Mapping[str, LowRankLinear], width: int) -> None:
        super().__init__()
        self.network = network
        self.layers = dict(layers)
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch."""
        features = self.network(images)
        if not isinstance(features, Tensor):
            raise TypeError(f"the backbone must return a tensor, but gave {type(features)}.")
        return features

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


def build_backbone(config: TrialConfig, adapt: tuple[str, ...]) -> AdaptedBackbone:
    """Builds the network and wraps every fused qkv with branches on the slices in `adapt`.

    Layers are named layer_00, layer_01, … in the order of the network. The seed only matters
    for networks without pretrained weights.

    Raises:
        ValueError: if the network has no fused qkv layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        channels = catalog.dataset(config.data.name).channels
        network = create_network(
            config.backbone.name, config.backbone.pretrained, config.data.image_size, channels
        )
    network.eval()
    owners: list[tuple[nn.Module, nn.Linear]] = []
    for module in network.modules():
        fused = getattr(module, "qkv", None)
        if isinstance(fused, nn.Linear):
            owners.append((module, fused))
    if not owners:
        raise ValueError(f"backbone {config.backbone.name} has no fused qkv layer to adapt.")
    layers = {}
    for index, (attention, qkv) in enumerate(owners):
        width = qkv.in_features
        rows = {name: slice(i * width, (i + 1) * width) for i, name in enumerate(QKV)}
        layer = LowRankLinear(qkv, {name: rows[name] for name in QKV if name in adapt})
        attention.qkv = layer
        layers[f"layer_{index:02d}"] = layer
    return AdaptedBackbone(network, layers, owners[0][1].in_features)
