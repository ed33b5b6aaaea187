"""InfLoRA-b5: branches in the first five blocks only, and a memory that only grows (plain GPM)."""

from typing import Any

DEFAULTS: dict[str, Any] = {"backbone.blocks": "first:5", "method.dual": False}

RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("imagenet_r", None): {"method.epsilon": 0.99},
    ("imagenet_r", 5): {"method.epsilon": 0.98},
    ("cifar100", None): {"optim.lr": 1e-3},
}
