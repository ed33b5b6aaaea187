import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.trainables.draws import seeded
from tests.trainables.trials import tiny
from trainables.backbones.pixels import input_layer
from trainables.method import adapted_backbone


def pretrained() -> nn.Module:
    network = nn.Linear(1, 1)
    network.pretrained_cfg = {"mean": (0.2, 0.4, 0.6), "std": (0.1, 0.2, 0.3)}  # type: ignore[assignment]
    return network


def test_colours_are_normalised_one_by_one_and_grey_by_their_mean() -> None:
    images = torch.rand(2, 3, 4, 4, generator=seeded())
    normalised = input_layer(pretrained(), "pretrained", 3)(images)
    for channel, (mean, deviation) in enumerate([(0.2, 0.1), (0.4, 0.2), (0.6, 0.3)]):
        torch.testing.assert_close(normalised[:, channel], (images[:, channel] - mean) / deviation)
    layer = input_layer(pretrained(), "pretrained", 1)
    torch.testing.assert_close(layer(torch.full((1, 1, 2, 2), 0.6)), torch.ones(1, 1, 2, 2))
    # Statistics are neither saved nor trained.
    assert not layer.state_dict() and not list(layer.parameters())


def test_none_leaves_pixels_and_pretrained_needs_statistics() -> None:
    images = torch.rand(1, 3, 2, 2)
    assert torch.equal(input_layer(nn.Linear(1, 1), "none", 3)(images), images)
    with pytest.raises(ValueError, match=r"backbone.normalise must be 'none' .* a Linear"):
        input_layer(nn.Linear(1, 1), "pretrained", 3)


def test_resized_images_reach_the_network() -> None:
    """Images of 32 px in front of a network of 8 px, as one of 224 px in front of icons."""
    config = tiny("linear_heads", {"data.image_size": 32, "backbone.image_size": 8})
    model = adapted_backbone(config)
    images = torch.rand(2, 1, 32, 32, generator=seeded())
    small = functional.interpolate(images, size=(8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(model(images), model.network(small))
    with pytest.raises(ValueError, match=r"backbone.image_size must be 8 .* but got 32"):
        tiny("linear_heads", {"data.image_size": 32, "backbone.image_size": 32})
    with pytest.raises(ValueError, match=r"data.image_size must be 8 .* but got 32"):
        tiny("linear_heads", {"data.image_size": 32})
