"""Training ViT-B/16 on one GPU: images a second over what the peak matrix rate allows.

Allowed is the measured rate of one large bf16 product, over what forward and the gradient of the
inputs take: frozen weights need no gradient of their own. Through `train_epochs`, at task 50 and
224 px.

Environment: GPU_BATCH (default 128).
"""

import os

import torch

from tests.benchmarks import machine, ours, stopwatch
from tests.benchmarks.row import Row

STEPS = 20
LEAST = 0.5
METHODS = ("inflora", "sd_lora")
MATRIX = 8192
# ViT-B/16 at 224 px.
DEPTH, WIDTH, TOKENS, PATCH = 12, 768, 197, 16 * 16 * 3


def rows() -> list[Row]:
    """One row a method."""
    names = {one: f"GPU, {one}: images/s over what the peak rate allows" for one in METHODS}
    device = machine.device()
    if device.type != "cuda":
        return [machine.without_gpu(name, LEAST, at_least=True) for name in names.values()]
    ours.prepare()
    return [_row(name, method, device) for method, name in names.items()]


def operations(depth: int, width: int, tokens: int, patch: int) -> float:
    """Floating-point operations of an image: forward and the gradient of every block's inputs.

    A linear layer takes 2 · tokens · in · out in each direction, a block has 12 · width² weights.
    Attention's two products take 2 · tokens² · width each, and twice that backward, where both
    factors need a gradient. Nothing goes back through the patches.
    """
    linear = 2.0 * tokens * 12 * width**2
    attention = 2 * 2.0 * tokens**2 * width
    return depth * (2 * linear + 3 * attention) + 2.0 * (tokens - 1) * patch * width


def peak_rate(device: torch.device, size: int = MATRIX) -> float:
    """Operations a second of a bf16 product of two square matrices."""
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    right = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    times = 20

    def multiply() -> None:
        for _ in range(times):
            torch.mm(left, right)

    seconds = stopwatch.in_turns({"product": multiply}, 5, device)["product"]
    return times * 2.0 * size**3 / seconds


def _row(name: str, method: str, device: torch.device) -> Row:
    batch = int(os.environ.get("GPU_BATCH", "128"))
    peak = peak_rate(device)
    images = ours.random_images(batch, device)
    trial = ours.at_task(ours.config_of(method, batch, STEPS), ours.TASKS, images)
    seconds = stopwatch.in_turns({"train": trial.train_steps}, 3, device)["train"]
    rate = STEPS * batch / seconds
    allowed = peak / operations(DEPTH, WIDTH, TOKENS, PATCH)
    return Row(
        name,
        rate / allowed,
        LEAST,
        f"{rate:.0f} of {allowed:.0f} images/s; peak {peak / 1e12:.0f} TFLOP/s, batch {batch}",
        at_least=True,
    )
