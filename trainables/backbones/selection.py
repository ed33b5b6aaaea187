"""Which layers of a network take branches: by pattern, by block, without importing torch."""

import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NoReturn

from trainables.backbones.info import LayerInfo

QKV = ("q", "k", "v")
FUSED = "qkv"  # all three as one slice
MLP_PATTERN = "*.mlp.fc*"  # gated MLPs have fc1_g and fc1_x
# timm's names of squeeze-and-excite, whose 1×1 convolutions see one pooled position an image.
GATE_NAMES = ("se", "se_module", "attn_last")


def select(
    layers: Sequence[LayerInfo],
    patterns: Sequence[str] | None,
    blocks: str | Sequence[int],
    preferred: Sequence[str] = (),
) -> dict[str, LayerInfo]:
    """The layers to adapt, named layer_00, layer_01, … as they follow in the network.

    `patterns` are globs over paths; None means those of `preferred` that match, and where none
    does, the fused qkv of all attention, in a network without the layers of its MLPs, in one
    without those its 1×1 convolutions but for the gates of squeeze-and-excite. `blocks` is "all",
    "first:N" or a list of block numbers from 0. Layers are numbered before `blocks` picks among
    them, so that a layer has the same name in every study of one pattern. ValueError if nothing
    matches, there is no such block, or a layer is never called.
    """
    known = [layer.path for layer in layers]
    for pattern in patterns or ():
        if not any(fnmatchcase(path, pattern) for path in known):
            _refuse(repr(pattern), known)
    if patterns is None and any(fnmatchcase(path, own) for own in preferred for path in known):
        patterns = preferred
    matching = [layer for layer in layers if _matches(layer, patterns, layers)]
    if not matching:
        _refuse("the default choice", known)
    order = list(dict.fromkeys(block_of(layer.path) for layer in matching))
    kept = {order[number] for number in block_numbers(blocks, len(order))}
    named = {f"layer_{index:02d}": layer for index, layer in enumerate(matching)}
    chosen = {name: layer for name, layer in named.items() if block_of(layer.path) in kept}
    refuse_idle([layer.path for layer in chosen.values() if not layer.called])
    return chosen


def refuse_idle(paths: Sequence[str]) -> None:
    """ValueError if there are `paths`, layers that the network never calls; it names three."""
    if paths:
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        raise ValueError(
            f"backbone.layers must match layers that the network calls, but it never calls "
            f"{', '.join(paths[:3])}{more}: it reads their weights itself, where a branch "
            f"would change nothing."
        )


def block_of(path: str) -> str:
    """The path up to its last number: blocks.3.attn.qkv is in blocks.3."""
    parts = path.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[-1] + 1]) if numbers else path


def block_numbers(blocks: str | Sequence[int], count: int) -> list[int]:
    """The numbers of the blocks named by `blocks` among `count`, sorted.

    "first:N" is all blocks where there are no more than N. ValueError if it is not "all",
    "first:N" or a list of different numbers below `count`.
    """
    if blocks == "all":
        return list(range(count))
    first = re.fullmatch(r"first:(\d+)", blocks) if isinstance(blocks, str) else None
    numbers = list(range(min(int(first[1]), count))) if first else blocks
    fine = not isinstance(numbers, str) and numbers and len(set(numbers)) == len(numbers)
    if not fine or not all(0 <= int(number) < count for number in numbers):
        raise ValueError(
            f"backbone.blocks must be 'all', 'first:N' with N of at least 1 or a list of "
            f"different numbers in [0, {count - 1}], but got {blocks!r}."
        )
    return sorted(int(number) for number in numbers)


def slices_of(layer: LayerInfo, adapt: Sequence[str]) -> tuple[str, ...]:
    """The output slices of a layer that take branches: some of q, k, v, or "qkv" as one.

    "all" of any layer but a fused qkv.
    """
    if layer.kind != "qkv":
        return ("all",)
    return tuple(part for part in (*QKV, FUSED) if part in adapt)


def _matches(layer: LayerInfo, patterns: Sequence[str] | None, layers: Sequence[LayerInfo]) -> bool:
    if patterns is not None:
        return any(fnmatchcase(layer.path, pattern) for pattern in patterns)
    if any(other.kind == "qkv" for other in layers):
        return layer.kind == "qkv"
    if any(fnmatchcase(other.path, MLP_PATTERN) for other in layers):
        return fnmatchcase(layer.path, MLP_PATTERN)
    return layer.kind == "conv" and not set(layer.path.split(".")) & set(GATE_NAMES)


def _refuse(tried: str, known: Sequence[str]) -> NoReturn:
    hint = difflib.get_close_matches(tried.strip("'"), known, n=2) or known[:2]
    raise ValueError(
        f"backbone.layers must match linear layers or 1×1 convolutions, but {tried} matches "
        f"none of {len(known)}{f', such as {list(hint)}' if hint else ''}."
    )
