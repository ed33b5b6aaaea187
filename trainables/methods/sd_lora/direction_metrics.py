"""What is recorded of SD-LoRA's directions: spans, magnitudes, likeness, bytes."""

from collections.abc import Mapping, Sequence
from itertools import chain

import torch

from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.directions import DirectionStack, similarity
from trainables.metrics import by_layer, counted

# Directions whose share of the strongest is below this come from rounding.
SPAN_TOLERANCE = 1e-10


def spans(layers: Mapping[str, LowRankLinear], rank: int) -> dict[str, float]:
    """subspace/dim_used, /dim_free and /exhausted_layers.

    The free dimension of a layer is that of the inputs which no direction reads: SD-LoRA does
    not protect it, so that running out (below `rank`) says how much directions overlap.
    """
    used = {name: float(_span(layer)) for name, layer in layers.items()}
    free = {name: layer.in_features - used[name] for name, layer in layers.items()}
    short = {name: dim < rank for name, dim in free.items()}
    return (
        by_layer("subspace/dim_free", free)
        | by_layer("subspace/dim_used", used)
        | counted("subspace/exhausted_layers", short)
    )


def magnitudes(stacks: Sequence[DirectionStack]) -> dict[str, float]:
    """alpha/task_XX, α of the pair that task XX left, and alpha/pairs_kept, pairs in a slice.

    Both are means over the slices; that of a task is over those that hold its pair, so that a
    task whose pair was dropped everywhere has none.
    """
    by_task: dict[int, list[float]] = {}
    for stack in stacks:
        for task, alpha in zip(stack.task.tolist(), stack.alpha.tolist(), strict=True):
            by_task.setdefault(task, []).append(alpha)
    recorded = {
        f"alpha/task_{task:02d}": sum(values) / len(values)
        for task, values in sorted(by_task.items())
    }
    return recorded | {"alpha/pairs_kept": sum(map(len, stacks)) / len(stacks)}


def similarities(layers: Mapping[str, LowRankLinear]) -> dict[str, float]:
    """subspace/direction_similarity of open pairs with old ones; nothing before the second task.

    In a layer it is the mean over slices of `directions.similarity`.
    """
    by_name = {}
    for layer_name, layer in layers.items():
        pairs = {name: layer.branch_of(name) for name in layer.stacks}
        if pairs:
            alike = [similarity(layer.stack_of(n), pair.up, pair.down) for n, pair in pairs.items()]
            by_name[layer_name] = sum(alike) / len(alike)
    return by_layer("subspace/direction_similarity", by_name)


def branch_bytes(stacks: Sequence[DirectionStack]) -> float:
    """Bytes of all directions and magnitudes, a shared α counted once."""
    tensors = {
        id(tensor): tensor for stack in stacks for tensor in chain(stack.buffers(), [stack.alpha])
    }
    return float(sum(tensor.nbytes for tensor in tensors.values()))


def _span(layer: LowRankLinear) -> int:
    """Dimension of the inputs that the directions of all slices read."""
    down = torch.cat([layer.stack_of(name).down for name in layer.stacks]).double()
    energies = torch.linalg.eigvalsh(down.T @ down)
    return int((energies > SPAN_TOLERANCE * energies.max()).sum())
