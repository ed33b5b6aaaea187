"""One ViT-B layer: the released recipe over ours, against the ratios of the project's reference.

SD-LoRA: the fused qkv with directions on q and v, over one linear layer that holds the composed
weight (composing it is not in it).
InfLoRA: attention whose k and v weights are multiplied out, softmax written out, over merged
attention with torch's fused kernel. Width 768, 12 heads, LAYER_IMAGES (default 2) images of
LAYER_TOKENS (default 197) tokens, in float32. As in training: forward and backward, to the inputs
and to what the method trains; pretrained weights and old pairs are frozen. LAYER_BACKWARD=0 times
the forward pass alone. Medians of LAYER_REPEATS (default 15) calls in turns, BENCH_THREADS.
"""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.benchmarks import stopwatch
from tests.benchmarks.reference_layers import (
    ALPHA,
    FusedAttention,
    ReferenceInfLoRAAttention,
    ReferenceSDLoRALinear,
)
from tests.benchmarks.row import Row

WIDTH = 768
HEADS = 12
# Of the project's reference, by number of tasks.
SD_LORA = {1: 2.7, 10: 3.1, 20: 6.1, 50: 9.1}
INFLORA = {1: 2.2, 10: 2.3, 20: 2.9, 50: 4.7}
TOLERANCE = 0.2


def rows() -> list[Row]:
    """How far each ratio lies from the one to be reproduced, as a share of it."""
    stopwatch.use_threads()
    images = int(os.environ.get("LAYER_IMAGES", "2"))
    tokens = int(os.environ.get("LAYER_TOKENS", "197"))
    x = torch.randn(images, tokens, WIDTH)
    return [
        _row(name, tasks, ratio(tasks, x), target)
        for name, ratio, targets in (
            ("SD-LoRA linear, released / composed", sd_lora, SD_LORA),
            ("InfLoRA attention, released / merged", inflora, INFLORA),
        )
        for tasks, target in targets.items()
    ]


def sd_lora(tasks: int, x: Tensor) -> float:
    """The layer of task number `tasks` over a linear layer that holds the composed weight."""
    alphas = nn.ParameterList(nn.Parameter(torch.tensor(ALPHA)) for _ in range(tasks))
    released = ReferenceSDLoRALinear(_frozen(WIDTH, 3 * WIDTH), alphas)
    return _ratio(released, _frozen(WIDTH, 3 * WIDTH), x)


def inflora(tasks: int, x: Tensor) -> float:
    """The attention of task number `tasks` over merged attention."""
    qkv, proj = _frozen(WIDTH, 3 * WIDTH), _frozen(WIDTH, WIDTH)
    released = ReferenceInfLoRAAttention(qkv, proj, HEADS, tasks)
    return _ratio(released, FusedAttention(qkv, proj, HEADS), x)


def _ratio(released: nn.Module, ours: nn.Module, x: Tensor) -> float:
    backward = os.environ.get("LAYER_BACKWARD", "1") == "1"
    repeats = int(os.environ.get("LAYER_REPEATS", "15"))
    calls = {"released": _pass(released, x, backward), "ours": _pass(ours, x, backward)}
    seconds = stopwatch.in_turns(calls, repeats, x.device)
    return seconds["released"] / seconds["ours"]


def _pass(layer: nn.Module, x: Tensor, backward: bool) -> Callable[[], object]:
    """A forward pass or, with it, the gradients of the inputs and of what is trained."""
    inputs = x.clone().requires_grad_(backward)

    def both() -> None:
        out = layer(inputs)
        out.backward(torch.ones_like(out))

    def forward() -> None:
        with torch.no_grad():
            layer(inputs)

    return both if backward else forward


def _frozen(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    layer.requires_grad_(False)
    return layer


def _row(name: str, tasks: int, ratio: float, target: float) -> Row:
    return Row(
        f"{name}, {tasks} tasks: distance from {target}",
        abs(ratio / target - 1),
        TOLERANCE,
        f"{ratio:.2f}",
    )
