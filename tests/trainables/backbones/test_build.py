"""What is built from a config: weights, branches, pixels, features."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.trainables.trials import tiny
from trainables.backbones import selection
from trainables.backbones.adapted import dry_run, insert_branches
from trainables.backbones.inspection import layers_of
from trainables.backbones.pixels import Normalise
from trainables.backbones.registry import create_network
from trainables.backbones.timm_compat import COMPILED, keep_compiler_out_of_tmp
from trainables.backbones.timm_lookup import describe
from trainables.config import catalog
from trainables.method import adapted_backbone

# name, image size, adapted layers, inputs of the first, width of the features
TIMM = [
    pytest.param("deit_tiny_patch16_224", 32, 12, 192, 192, marks=pytest.mark.nightly),
    ("vit_small_patch14_dinov2", 28, 12, 384, 384),
    ("swin_s3_tiny_224", 32, 12, 96, 768),
    ("convnext_atto", 32, 24, 40, 320),
    pytest.param("tf_efficientnet_lite0", 32, 32, 32, 1280, marks=pytest.mark.nightly),
    ("resnet18", 32, 3, 64, 512),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "count", "inputs", "width"), TIMM)
def test_timm_networks_take_branches(
    name: str, size: int, count: int, inputs: int, width: int
) -> None:
    info = describe(name, (), size, 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = create_network(name, False, None, size, 3).eval()
        images = torch.rand(2, 3, size, size)
    assert layers_of(network) == info.layers
    assert info.pretrained
    assert size % info.patch_size == 0
    selected = selection.select(info.layers, None, "all")
    assert len(selected) == count
    assert selected["layer_00"].inputs == inputs
    with torch.no_grad():
        before = network(images)
        layers = insert_branches(network, selected, ("k", "v"))
        assert dry_run(network, selected, images)[0] == width == before.shape[1]
        assert torch.equal(network(images), before)
        opened = [layer.add_branch(2) for layer in layers.values()]
        for branches in opened:
            for branch in branches.values():
                torch.nn.init.normal_(branch.down)
        assert torch.equal(network(images), before)
        for branch in opened[0].values():
            torch.nn.init.normal_(branch.up)
        assert not torch.equal(network(images), before)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_tiny_patch16_224", 8, "1 × 8 × 8 images, but vit_tiny_patch16_224 cannot"),
        ("vit_tiny_patch16_224.no_tag", 32, r"or one of \['vit_tiny_patch16_224.augreg_in21k'"),
        ("resnet81", 32, r"a timm model, but got 'resnet81'. Close names: \['resnet18'"),
    ],
)
def test_what_timm_cannot_do_is_said(name: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"backbone.name must be .*{message}"):
        describe(name, ("compact_vit",), size, 1)


@pytest.mark.parametrize(
    ("name", "misfit"),
    [
        ("deit_tiny_distilled_patch16_224", None),
        ("swin_s3_tiny_224", None),
        ("resnet18", None),
        pytest.param(
            "levit_128",
            "size mismatch for stages.0.blocks.0.attn.attention_biases",
            marks=pytest.mark.nightly,
        ),
        ("mixer_s32_224", None),
        ("mixer_b16_224", "size mismatch for blocks.0.mlp_tokens.fc1.weight"),
        pytest.param("cait_xxs24_224", "size mismatch for pos_embed", marks=pytest.mark.nightly),
    ],
)
def test_image_size_is_tried_and_so_are_the_weights(name: str, misfit: str | None) -> None:
    assert describe(name, (), 64, 3).misfit == misfit


def test_what_timm_says_of_weights_that_are_only_tried_is_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As of LeViT's, which have a batch norm that features need not."""
    assert describe.__wrapped__("levit_128s", (), 224, 3).misfit is None
    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("efficientvim_m1_dist", 64, "of the 8 of efficientvim_m1_dist heads.0 sees 128 of 960"),
        ("volo_d1_224", 64, "of the 2 of volo_d1_224 the scores of aux_head are of other features"),
        ("crossvit_tiny_240", 240, "of the 2 of crossvit_tiny_240 head.0 sees 96 of 288 features"),
    ],
)
def test_classifiers_of_other_things_than_the_features_are_refused(
    name: str, size: int, found: str
) -> None:
    with pytest.raises(ValueError, match=f"backbone.name must be a model .*{found}"):
        describe(name, (), size, 3)


def test_weights_that_do_not_fit_are_refused_before_anything_is_built() -> None:
    changes = {"backbone.name": "cait_xxs24_224", "backbone.image_size": 64}
    with pytest.raises(ValueError, match="image_size must be one that the pretrained weights of"):
        tiny("linear_heads", {**changes, "backbone.pretrained": True})
    assert tiny("linear_heads", changes).input_size == 64


def test_attention_that_reads_its_weight_is_found_before_anything_is_built() -> None:
    layers = describe("beit_base_patch16_224", (), 32, 1).layers
    assert {layer.called for layer in layers if layer.kind == "qkv"} == {False}
    with pytest.raises(ValueError, match=r"never calls blocks.0.attn.qkv"):
        selection.select(layers, None, "all")
    assert len(selection.select(layers, ("*.mlp.fc1",), "first:3")) == 3


@pytest.mark.parametrize(("name", "patch"), [("pvt_v2_b0", 4), ("xcit_nano_12_p16_224", 16)])
def test_patch_size_is_the_step_between_patches(name: str, patch: int) -> None:
    assert describe(name, (), 32, 1).patch_size == patch


@pytest.mark.parametrize("network", ["test_vit", "test_swin", "test_convnext"])
def test_the_seed_decides_the_random_weights_and_nothing_else(network: str) -> None:
    def build(seed: int) -> dict[str, torch.Tensor]:
        return adapted_backbone(
            tiny("inflora", {"backbone.name": network, "seed": seed})
        ).state_dict()

    state = torch.get_rng_state()
    first, again, other = build(1), build(1), build(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_a_local_file_is_loaded_whatever_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    source = create_network("test_vit", False, None, 8, 1).eval()
    save_file(source.state_dict(), path)
    changes = {"backbone.pretrained": True, "backbone.checkpoint": str(path), "seed": 5}
    model = adapted_backbone(tiny("inflora", changes))
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(images), source(images))
    assert not model.training
    with pytest.raises(ValueError, match=r"backbone.pretrained must be true with backbone.check"):
        tiny("inflora", {"backbone.checkpoint": str(path)})


def test_timm_networks_can_be_fed_as_they_were_pretrained() -> None:
    changes = {"backbone.name": "resnet18", "data.image_size": 32}
    plain = adapted_backbone(tiny("inflora", changes))
    changes["backbone.normalise"] = "pretrained"
    normalised = adapted_backbone(tiny("inflora", changes))
    assert isinstance(normalised.inputs, Normalise)
    assert plain.state_dict().keys() == normalised.state_dict().keys()
    images = torch.rand(2, 1, 32, 32)
    mean, deviation = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    with torch.no_grad():
        expected = plain((images - mean) / deviation)
        torch.testing.assert_close(normalised(images), expected)
        assert not torch.allclose(plain(images), expected)
    assert (plain.width, normalised.width) == (512, 512)


@pytest.mark.parametrize("name", catalog.PUBLISHED)
def test_what_is_known_of_a_published_network_is_what_timm_says(name: str) -> None:
    assert describe(name, (), 224, 3) == catalog.PUBLISHED[name]


def test_what_importing_timm_makes_is_under_no_name_that_others_can_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(COMPILED)
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_compiler_out_of_tmp()
    assert Path(os.environ[COMPILED]).is_relative_to(tmp_path)

    # A home that cannot be written to.
    (tmp_path / "file").touch()
    found = set()
    for _ in range(2):
        monkeypatch.delenv(COMPILED)
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
        keep_compiler_out_of_tmp()
        found.add(folder := Path(os.environ[COMPILED]))
        assert folder.stat().st_mode & 0o777 == 0o700
    assert len(found) == 2
