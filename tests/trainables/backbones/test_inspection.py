import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.backbones.adapted import dry_run, insert_branches
from trainables.backbones.info import LayerInfo
from trainables.backbones.inspection import final_norm, layers_of, watch_calls
from trainables.backbones.registry import EMBEDDED
from trainables.config import catalog


@pytest.mark.parametrize("name", catalog.BACKBONES)
def test_the_catalog_has_the_layers_that_the_embedded_networks_have(name: str) -> None:
    network = EMBEDDED[name]()
    info = catalog.BACKBONES[name]
    assert layers_of(network) == info.layers
    assert info.image_size is not None
    modules = {layer.path: network.get_submodule(layer.path) for layer in info.layers}
    with torch.no_grad(), watch_calls(modules) as called:
        features = network.eval()(torch.zeros(1, 1, info.image_size, info.image_size))
    assert set(called) == set(modules)
    assert features.ndim == 2


class Standardised(nn.Conv2d):
    """A convolution that changes its weight before it uses it."""

    def forward(self, images: Tensor) -> Tensor:
        return functional.conv2d(images, self.weight / self.weight.std(), self.bias)


class Odd(nn.Module):
    """Calls `used`, reads the weight of `read`; the others are no plain maps over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.read = nn.Linear(4, 4)
        self.qkv = nn.Linear(4, 8)
        self.standardised = Standardised(4, 4, 1)
        self.padded = nn.Conv2d(4, 4, 1, padding=1)
        self.grouped = nn.Conv2d(4, 4, 1, groups=2)
        self.wide = nn.Conv2d(4, 4, 3)
        self.strided = nn.Conv2d(4, 4, 1, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        return functional.linear(self.used(images.flatten(1)), self.read.weight)


def test_only_plain_maps_over_channels_are_listed() -> None:
    assert layers_of(Odd()) == (
        LayerInfo("used", "linear", 4),
        LayerInfo("read", "linear", 4),
        LayerInfo("qkv", "linear", 4),  # 8 outputs: not three slices of the inputs' width
        LayerInfo("strided", "conv", 4),
    )


@pytest.mark.parametrize(("path", "fine"), [("used", True), ("read", False)])
def test_a_layer_that_the_network_passes_by_is_found_when_built(path: str, fine: bool) -> None:
    network = Odd()
    selected = {"layer_00": LayerInfo(path, "linear", 4)}
    layers = insert_branches(network, selected, ())
    assert network.get_submodule(path) is layers["layer_00"]
    images = torch.zeros(1, 1, 2, 2)
    if fine:
        assert dry_run(network, selected, images) == (4, 1)
    else:
        with pytest.raises(ValueError, match=r"backbone.layers .* never calls read"):
            dry_run(network, selected, images)


def test_watching_ends_with_the_block() -> None:
    layer = nn.Linear(2, 2)
    with watch_calls({"layer": layer}) as called:
        layer(torch.zeros(1, 2))
    assert called == ["layer"]
    called.clear()
    layer(torch.zeros(1, 2))
    assert not called


def test_the_final_norm_is_the_last_one_if_it_is_a_layer_norm_with_weights() -> None:
    last = nn.LayerNorm(4)
    ends = nn.Sequential(nn.BatchNorm1d(4), last, nn.Linear(4, 4))
    assert final_norm(ends) is last
    ends.append(nn.LayerNorm(4, elementwise_affine=False))
    assert final_norm(ends) is last
    assert final_norm(nn.Sequential(last, nn.BatchNorm1d(4))) is None
    assert final_norm(nn.Linear(4, 4)) is None
