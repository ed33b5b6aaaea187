import pytest
from torch import nn

from trainables.backbones import selection
from trainables.backbones.adapted import insert_branches
from trainables.backbones.info import LayerInfo
from trainables.config import catalog

VIT = catalog.BACKBONES["compact_vit"].layers
SWIN = catalog.BACKBONES["test_swin"].layers
CONVNEXT = catalog.BACKBONES["test_convnext"].layers
EFFICIENTNET = tuple(
    LayerInfo(path, "conv", 8)
    for path in (
        "blocks.0.0.se.conv_reduce",
        "blocks.0.0.se.conv_expand",
        "blocks.0.0.conv_pw",
        "blocks.1.0.conv_pw",
        "blocks.1.0.conv_pwl",
        "conv_head",
    )
)


def paths(chosen: dict[str, LayerInfo]) -> list[str]:
    return [layer.path for layer in chosen.values()]


def test_default_is_qkv_then_mlps_then_convolutions_without_gates() -> None:
    assert paths(selection.select(VIT, None, "all")) == [f"blocks.{i}.attn.qkv" for i in range(4)]
    assert paths(selection.select(SWIN, None, "all")) == [
        "layers.0.blocks.0.attn.qkv",
        "layers.1.blocks.0.attn.qkv",
        "layers.1.blocks.1.attn.qkv",
    ]
    assert selection.select(CONVNEXT, None, "all").keys() == {f"layer_{i:02d}" for i in range(8)}
    assert paths(selection.select(EFFICIENTNET, None, "all")) == [
        "blocks.0.0.conv_pw",
        "blocks.1.0.conv_pw",
        "blocks.1.0.conv_pwl",
        "conv_head",
    ]
    gates = selection.select(EFFICIENTNET, ("*.se.*",), "all")
    assert len(gates) == 2


def test_patterns_pick_by_path_in_the_order_of_the_network() -> None:
    chosen = selection.select(VIT, ("*.mlp.fc2", "blocks.[01].attn.*"), "all")
    assert paths(chosen) == [
        "blocks.0.attn.qkv",
        "blocks.0.attn.proj",
        "blocks.0.mlp.fc2",
        "blocks.1.attn.qkv",
        "blocks.1.attn.proj",
        "blocks.1.mlp.fc2",
        "blocks.2.mlp.fc2",
        "blocks.3.mlp.fc2",
    ]


def test_blocks_pick_among_blocks_with_a_chosen_layer_and_keep_the_numbering() -> None:
    whole = selection.select(CONVNEXT, None, "all")
    assert list(selection.select(CONVNEXT, None, "first:1")) == ["layer_00", "layer_01"]
    some = selection.select(CONVNEXT, None, (3, 1))
    assert list(some) == ["layer_02", "layer_03", "layer_06", "layer_07"]
    assert some.items() <= whole.items()
    assert selection.select(CONVNEXT, None, "first:4") == whole
    assert selection.select(CONVNEXT, None, "first:5") == whole


@pytest.mark.parametrize("blocks", ["first:0", "last:1", (), (4,), (-1,), (1, 1)])
def test_other_blocks_are_refused(blocks: str | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"'first:N' .* different numbers in \[0, 3\], but got"):
        selection.select(VIT, None, blocks)


def test_a_pattern_without_a_match_names_a_close_path() -> None:
    with pytest.raises(ValueError, match=r"'blocks.0.attn.qvk' matches none of 17, such as \["):
        selection.select(VIT, ("blocks.0.attn.qvk",), "all")
    with pytest.raises(ValueError, match="the default choice matches none of 0"):
        selection.select((), None, "all")


def test_layers_that_are_never_called_are_refused_only_where_chosen() -> None:
    beit = (
        *(LayerInfo(f"blocks.{i}.attn.qkv", "qkv", 8, called=False) for i in range(4)),
        LayerInfo("blocks.3.mlp.fc1", "linear", 8),
    )
    with pytest.raises(ValueError, match=r"never calls blocks.0.attn.qkv, .* and 1 more: it reads"):
        selection.select(beit, None, "all")
    assert paths(selection.select(beit, ("*.fc1",), "all")) == ["blocks.3.mlp.fc1"]


def test_only_a_fused_qkv_has_slices() -> None:
    qkv, linear = LayerInfo("qkv", "qkv", 8), LayerInfo("fc", "linear", 8)
    assert selection.slices_of(qkv, ("v", "q")) == ("q", "v")
    assert selection.slices_of(linear, ("v", "q")) == ("all",)


def test_all_of_a_fused_qkv_may_be_one_slice() -> None:
    qkv, linear = LayerInfo("qkv", "qkv", 8), LayerInfo("fc", "linear", 8)
    assert selection.slices_of(qkv, ("qkv",)) == ("qkv",)
    assert selection.slices_of(linear, ("qkv",)) == ("all",)
    network = nn.ModuleDict({"qkv": nn.Linear(8, 24)})
    layers = insert_branches(network, {"a": qkv}, ("qkv",))
    assert layers["a"] is network["qkv"] and layers["a"].slices == {"qkv": slice(0, 24)}


def test_a_methods_own_layers_stand_in_for_the_default_as_far_as_there_are_such() -> None:
    own = ("*.attn.qkv", "*.mlp.fc1")
    chosen = paths(selection.select(VIT, None, "all", own))
    assert chosen == [f"blocks.{i}.{path}" for i in range(4) for path in ("attn.qkv", "mlp.fc1")]
    fc1 = paths(selection.select(CONVNEXT, None, "all", own))
    assert fc1 == [f"stages.{i}.blocks.0.mlp.fc1" for i in range(4)]
    default = selection.select(EFFICIENTNET, None, "all")
    assert selection.select(EFFICIENTNET, None, "all", own) == default
    assert len(selection.select(VIT, ("*.proj",), "all", own)) == 4
