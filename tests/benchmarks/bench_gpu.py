"""Training ViT-B/16 on one GPU: images a second over what the peak matrix rate allows.

Allowed is the measured rate of one large bf16 product, over what forward and the gradient of the
inputs take: frozen weights need no gradient of their own. Through `train_epochs`, at task 50 and
224 px.
"""

import torch

from tests.benchmarks import measuring, ours

NEEDS_GPU = True
STEPS = 20
LEAST = 0.5
MATRIX = 8192
# ViT-B/16 at 224 px.
DEPTH, WIDTH, TOKENS, PATCH = 12, 768, 197, 16 * 16 * 3


def rows() -> list[measuring.Row]:
    """One row a method."""
    ours.prepare()
    device = measuring.device()
    return [_row(method, device) for method in ours.METHODS]


def operations(depth: int, width: int, tokens: int, patch: int) -> float:
    """Floating-point operations of an image: forward and the gradient of every block's inputs.

    A linear layer takes 2 · tokens · in · out in each direction, a block has 12 · width² weights.
    Attention's two products take 2 · tokens² · width each, and twice that backward, where both
    factors need a gradient. Nothing goes back through the patches.
    """
    linear = 2.0 * tokens * 12 * width**2
    attention = 2 * 2.0 * tokens**2 * width
    return depth * (2 * linear + 3 * attention) + 2.0 * (tokens - 1) * patch * width


def peak_rate(device: torch.device) -> float:
    """Operations a second of a bf16 product of two square matrices."""
    left, right = torch.randn(2, MATRIX, MATRIX, device=device, dtype=torch.bfloat16)
    times = 20

    def multiply() -> None:
        for _ in range(times):
            torch.mm(left, right)

    seconds = measuring.in_turns({"product": multiply}, device, 5)["product"]
    return times * 2.0 * MATRIX**3 / seconds


def _row(method: str, device: torch.device) -> measuring.Row:
    name = f"GPU, {method}: images/s over what the peak rate allows"
    batch, peak = ours.batch(), peak_rate(device)
    images = ours.random_images(batch, device)
    trial = ours.at_task(ours.config_of(method, batch, STEPS), ours.TASKS, images)
    rate = STEPS * batch / measuring.in_turns({"train": trial.train_steps}, device)["train"]
    allowed = peak / operations(DEPTH, WIDTH, TOKENS, PATCH)
    note = f"{rate:.0f} of {allowed:.0f} images/s; peak {peak / 1e12:.0f} TFLOP/s, batch {batch}"
    return measuring.Row(name, rate / allowed, LEAST, note, at_least=True)
