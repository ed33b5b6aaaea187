"""One ViT-B layer: the released recipe over ours, against the ratios of the project's reference.

SD-LoRA: the fused qkv with directions on q and v, over one linear layer that holds the composed
weight (composing it is not in it).
InfLoRA: attention whose k and v weights are multiplied out, softmax written out, over merged
attention with torch's fused kernel. Width 768, 12 heads, 2 images of 197 tokens, in float32. As in
training: forward and backward, to the inputs and to what the method trains; pretrained weights and
old pairs are frozen. Medians of 15 calls in turns.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.benchmarks import measuring
from tests.benchmarks.reference import (
    ALPHA,
    Attention,
    ReferenceSDLoRALinear,
    released_inflora,
)

WIDTH, HEADS, IMAGES, TOKENS = 768, 12, 2, 197
REPEATS = 15
# Of the project's reference, by number of tasks.
SD_LORA = {1: 2.7, 10: 3.1, 20: 6.1, 50: 9.1}
INFLORA = {1: 2.2, 10: 2.3, 20: 2.9, 50: 4.7}
TOLERANCE = 0.2


def rows() -> list[measuring.Row]:
    """How far each ratio lies from the one to be reproduced, as a share of it."""
    measuring.use_threads()
    return [
        _row(f"{name}, {tasks} tasks", layers(tasks), target)
        for name, layers, targets in (
            ("SD-LoRA linear, released / composed", sd_lora, SD_LORA),
            ("InfLoRA attention, released / merged", inflora, INFLORA),
        )
        for tasks, target in targets.items()
    ]


def sd_lora(tasks: int) -> dict[str, nn.Module]:
    """The layer of task number `tasks`, and a linear layer that holds the composed weight."""
    alphas = nn.ParameterList(nn.Parameter(torch.tensor(ALPHA)) for _ in range(tasks))
    released = ReferenceSDLoRALinear(_frozen(WIDTH, 3 * WIDTH), alphas)
    return {"released": released, "ours": _frozen(WIDTH, 3 * WIDTH)}


def inflora(tasks: int) -> dict[str, nn.Module]:
    """The attention of task number `tasks`, and merged attention."""
    qkv, proj = _frozen(WIDTH, 3 * WIDTH), _frozen(WIDTH, WIDTH)
    released = released_inflora(qkv, proj, HEADS, tasks)
    return {"released": released, "ours": Attention(qkv, proj, HEADS, fused=True)}


def _row(name: str, layers: dict[str, nn.Module], target: float) -> measuring.Row:
    x = torch.randn(IMAGES, TOKENS, WIDTH, requires_grad=True)
    calls = {name: _pass(layer, x) for name, layer in layers.items()}
    seconds = measuring.in_turns(calls, x.device, REPEATS)
    ratio = seconds["released"] / seconds["ours"]
    distance = abs(ratio / target - 1)
    return measuring.Row(f"{name}: distance from {target}", distance, TOLERANCE, f"{ratio:.2f}")


def _pass(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    """The gradients of the inputs and of what is trained."""

    def both() -> None:
        out = layer(x)
        out.backward(torch.ones_like(out))

    return both


def _frozen(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs).requires_grad_(False)
