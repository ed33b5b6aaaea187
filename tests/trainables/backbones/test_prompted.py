"""Queries and prompts on the backbone of a trial."""

import pytest
import torch
from torch import Tensor

from tests.trainables.draws import seeded
from tests.trainables.trials import tiny
from trainables.backbones.adapted import AdaptedBackbone
from trainables.backbones.prompted import places_of
from trainables.backbones.registry import EMBEDDED
from trainables.config import catalog
from trainables.method import adapted_backbone
from trainables.prompts.applied import as_prefix


def images() -> Tensor:
    return torch.rand(3, 1, 8, 8, generator=seeded())


def opened() -> AdaptedBackbone:
    """A network with branches that change what it gives."""
    model = adapted_backbone(tiny("inflora"))
    for layer in model.layers.values():
        for branch in layer.add_branch(2).values():
            torch.nn.init.normal_(branch.up, generator=seeded(1))
            torch.nn.init.normal_(branch.down, generator=seeded(2))
    return model


@pytest.mark.parametrize("name", catalog.BACKBONES)
def test_the_catalog_has_the_places_that_the_embedded_networks_have(name: str) -> None:
    assert places_of(EMBEDDED[name]()) == catalog.BACKBONES[name].prompts


def test_the_query_is_of_the_network_without_branches() -> None:
    plain, model = adapted_backbone(tiny("inflora")), opened()
    with torch.no_grad():
        changed = model(images())
    assert torch.equal(model.query(images()), plain.query(images()))
    assert torch.equal(plain.query(images()), plain(images()).detach())
    with torch.no_grad():
        assert torch.equal(model(images()), changed)
    assert not torch.allclose(changed, plain.query(images()))


def test_no_query_is_left_once_branches_are_merged() -> None:
    model = opened()
    for layer in model.layers.values():
        layer.merge()
    with pytest.raises(ValueError, match="no longer the pretrained one"):
        model.query(images())


def test_without_prompts_the_features_are_the_same_bits() -> None:
    model = opened()
    with torch.no_grad():
        features, outputs = model.prompted(images(), {})
        assert torch.equal(features, model(images())) and outputs is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_and_outputs_are_of_the_images_type(precision: str) -> None:
    model = adapted_backbone(tiny("l2p", {"optim.precision": precision}))
    rows = torch.randn(3, 2, 4, 16, generator=seeded())
    tokens = torch.randn(3, 2, 16, generator=seeded(1))
    with torch.no_grad():
        features, outputs = model.prompted(images(), {1: as_prefix(rows, model.heads)}, tokens)
    assert outputs is not None
    assert (features.dtype, outputs.dtype) == (torch.float32, torch.float32)
    assert (features.shape, outputs.shape) == ((3, 16), (3, 2, 16))


@pytest.mark.parametrize(("name", "kind"), [("test_swin", "Swin"), ("test_convnext", "ConvNeXt")])
def test_a_network_without_places_is_named(name: str, kind: str) -> None:
    model = adapted_backbone(tiny("inflora", {"backbone.name": name}))
    with pytest.raises(ValueError, match=f"prompts must enter a plain Vision Tr.* is a {kind}"):
        model.prompted(images(), {})


def test_the_position_of_a_class_token_is_known_where_there_is_one() -> None:
    network = {"backbone.name": "compact_vit", "backbone.pretrained": True, "data.image_size": 32}
    assert adapted_backbone(tiny("l2p", network)).class_position is None
    position = adapted_backbone(tiny("l2p")).class_position
    assert position is not None and position.shape == (16,)
