"""A stock timm backbone whose linear layers or 1×1 convolutions take low-rank branches."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainables.backbones import selection
from trainables.backbones.info import LayerInfo, PromptPlaces
from trainables.backbones.inspection import watch_calls
from trainables.backbones.prompted import places_of
from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.precision import computing
from trainables.prompts.applied import Prefix, prompted


class AdaptedBackbone(nn.Module):
    """Maps images (n, c, h, w) in [0, 1] to features (n, width); `layers` are the adapted ones.

    `inputs` turns pixels into what `network` was pretrained on, or is the identity. `precision`
    is that of `optim.precision`; features are of the images' type with either. `calls` is how often
    a forward pass calls a layer of `layers`, in all (None: not known).
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Mapping[str, LowRankLinear],
        width: int,
        inputs: nn.Module,
        precision: str = "float32",
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

    @torch.no_grad()
    def query(self, images: Tensor) -> Tensor:
        """Features (n, width) of the pretrained network, without prompts or branches.

        What the network gives: its class token or the mean of its patches, after the last norm.
        ValueError if branches were merged into it.
        """
        with ExitStack() as bare:
            for layer in self.layers.values():
                bare.enter_context(layer.bare())
            return self._features(images, self.precision)

    @torch.no_grad()
    def without_open(self, images: Tensor) -> Tensor:
        """Features (n, width) of the network without its open branches: as the task found it."""
        with ExitStack() as closed:
            for layer in self.layers.values():
                closed.enter_context(layer.closed())
            return self._features(images, self.precision)

    def prompted(
        self, images: Tensor, prefixes: Mapping[int, Prefix], tokens: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Features (n, width) with prompts, and the outputs (n, P, width) of inserted tokens.

        `prefixes` are keys and values (n, heads, length, width of a head) by number of block,
        `tokens` (n, P, width) are inserted before block 0. Without either, features are those of
        `forward` bit for bit. ValueError if the network takes no prompts.
        """
        _ = self.places
        with computing(images.device, self.precision):
            pixels = self.inputs(images)
            features, outputs = prompted(self.network, pixels, prefixes, tokens)
        return features.to(images.dtype), None if outputs is None else outputs.to(images.dtype)

    @property
    def places(self) -> PromptPlaces:
        """Where prompts can enter the network; ValueError if it takes none."""
        places = places_of(self.network)
        if places is None:
            raise ValueError(
                f"prompts must enter a plain Vision Transformer of timm, but the network is a "
                f"{type(self.network).__name__}."
            )
        return places

    @property
    def heads(self) -> int:
        """Heads of the attention in the first block of a network that takes prompts."""
        blocks: Any = self.network.blocks
        return int(blocks[0].attn.num_heads)

    @property
    def class_position(self) -> Tensor | None:
        """Position embedding (width,) of the class token, None where there is none."""
        network = cast(Any, self.network)
        return network.pos_embed[0, 0] if self.places.class_position else None

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
            features: Tensor = self.network(self.inputs(images))
        return features.to(images.dtype)


def insert_branches(
    network: nn.Module, selected: Mapping[str, LayerInfo], adapt: Sequence[str]
) -> dict[str, LowRankLinear]:
    """Puts a `LowRankLinear` around each selected layer, in place, and returns them by name."""
    layers = {}
    for name, info in selected.items():
        base = cast(nn.Linear | nn.Conv2d, network.get_submodule(info.path))
        width = base.weight.shape[0] // (3 if info.kind == "qkv" else 1)
        rows = {part: slice(i * width, (i + 1) * width) for i, part in enumerate(selection.QKV)}
        rows["all"] = rows[selection.FUSED] = slice(0, base.weight.shape[0])
        layers[name] = LowRankLinear(
            base, {part: rows[part] for part in selection.slices_of(info, adapt)}
        )
        owner, _, attribute = info.path.rpartition(".")
        setattr(network.get_submodule(owner), attribute, layers[name])
    return layers


@torch.no_grad()
def dry_run(
    network: nn.Module, selected: Mapping[str, LayerInfo], images: Tensor
) -> tuple[int, int]:
    """Runs `images` through; gives the width of the features and how many calls layers had.

    ValueError if a selected layer is never called, or features are not vectors.
    """
    modules = {info.path: network.get_submodule(info.path) for info in selected.values()}
    with watch_calls(modules) as called:
        features = network(images)
    selection.refuse_idle([path for path in modules if path not in called])
    if features.ndim != 2:
        raise ValueError(
            f"the backbone must give features (n, width), but gave {tuple(features.shape)}."
        )
    return int(features.shape[1]), len(called)
