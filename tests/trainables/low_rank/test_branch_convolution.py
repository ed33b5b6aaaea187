"""A 1×1 convolution with branches is a linear layer over channels, at the positions it keeps."""

import pytest
import torch
from torch import Tensor, nn

from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.moments import second_moments

STRIDES = pytest.mark.parametrize("stride", [1, 2])


def layer_and_maps(stride: int) -> tuple[LowRankLinear, Tensor]:
    """A layer from 6 to 8 channels with filled branches on two slices; maps of uneven sides."""
    torch.manual_seed(0)
    base = nn.Conv2d(6, 8, 1, stride=stride).double()
    layer = LowRankLinear(base, {"low": slice(0, 3), "high": slice(5, 8)})
    for branch in layer.add_branch(2).values():
        nn.init.normal_(branch.down)
        nn.init.normal_(branch.up)
    return layer, torch.randn(3, 6, 5, 7, dtype=torch.float64)


@STRIDES
def test_a_branch_beside_the_layer_equals_the_merged_convolution(stride: int) -> None:
    layer, maps = layer_and_maps(stride)
    merged = nn.Conv2d(6, 8, 1, stride=stride).double()
    with torch.no_grad():
        merged.weight.copy_(layer.base.weight + layer.delta()[:, :, None, None])
        merged.bias.copy_(layer.base.bias)  # type: ignore[union-attr, arg-type]
    before = layer(maps)
    torch.testing.assert_close(before, merged(maps), atol=1e-12, rtol=0)
    weight, tokens = layer.weight + layer.delta(), layer.tokens(maps)
    expected = nn.functional.linear(tokens, weight, layer.base.bias)
    outputs = before.permute(0, 2, 3, 1).flatten(0, -2)
    torch.testing.assert_close(outputs, expected, atol=1e-12, rtol=0)
    assert not torch.allclose(before, layer.base(maps))
    layer.merge()
    torch.testing.assert_close(layer(maps), before, atol=1e-12, rtol=0)
    torch.testing.assert_close(layer.base.weight, merged.weight, atol=1e-12, rtol=0)


def test_untouched_rows_stay_and_only_branches_get_gradients() -> None:
    layer, maps = layer_and_maps(1)
    layer.base.requires_grad_(False)
    # Beyond the rounding between a convolution and the product over its positions.
    moved = (layer(maps) - layer.base(maps)).abs().amax((0, 2, 3)) > 1e-12
    assert moved.tolist() == [True] * 3 + [False] * 2 + [True] * 3
    layer(maps).square().sum().backward()
    for branch in layer.branches.children():
        gradients = [factor.grad for factor in branch.parameters() if factor.ndim]
        assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)


@STRIDES
def test_second_moment_is_the_mean_over_positions(stride: int) -> None:
    layer, maps = layer_and_maps(stride)
    kept = maps[:, :, ::stride, ::stride]
    count = kept.shape[0] * kept.shape[2] * kept.shape[3]
    expected = torch.einsum("nihw,njhw->ij", kept, kept) / count
    moment = second_moments(layer, {"layer": layer}, maps.split(2))["layer"]
    torch.testing.assert_close(moment, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "base",
    [nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 1, padding=1)],
    ids=["wide", "grouped", "padded"],
)
def test_other_convolutions_are_refused(base: nn.Conv2d) -> None:
    with pytest.raises(ValueError, match="must be 1×1, of one group and without padding"):
        LowRankLinear(base, {"all": slice(0, 4)})
