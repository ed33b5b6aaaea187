"""Names of weights in EfficientNet-PyTorch, the package that most EfficientNet files come from."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

OUTER = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
    "_fc": "classifier",
}  # fmt: skip
GATE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
# timm counts the convolutions of a block from 1, whether or not it begins with an expansion.
EXPANDING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3", **GATE,
}  # fmt: skip
PLAIN = {
    "_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **GATE,
}  # fmt: skip


def timm_names(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """`weights` by timm's names for `network`; names of any other origin stay as they are.

    EfficientNet-PyTorch numbers all blocks in one row, timm by stage and place in it.
    """
    if "_conv_stem.weight" not in weights:
        return dict(weights)
    places = [
        path for path, _ in network.named_modules() if re.fullmatch(r"blocks\.\d+\.\d+", path)
    ]
    return {_renamed(key, places, weights): value for key, value in weights.items()}


def _renamed(key: str, places: list[str], weights: Mapping[str, Tensor]) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block is None:
        layer, _, tensor = key.rpartition(".")
        return f"{OUTER.get(layer, layer)}.{tensor}"
    number, layer, tensor = int(block[1]), block[2], block[3]
    names = EXPANDING if f"_blocks.{number}._expand_conv.weight" in weights else PLAIN
    if number >= len(places) or layer not in names:
        return key
    return f"{places[number]}.{names[layer]}.{tensor}"
