"""InfLoRA+CA: classifier alignment after each task, and a memory that only grows (plain GPM)."""

from typing import Any

DEFAULTS: dict[str, Any] = {"method.align": True, "method.dual": False}

# As in the released configuration files, which train this variant with SGD; their cosine moves
# once an epoch, the one here once a step. The released CIFAR code puts a fresh layer norm in the
# place of the backbone's last one; head_norm comes after it.
# fmt: off
_SGD: dict[str, Any] = {"optim.optimizer": "sgd", "optim.lr": 1e-3, "optim.momentum": 0.9}
RECIPES: dict[tuple[str, int | None], dict[str, Any]] = {
    ("imagenet_r", None): _SGD | {"method.epsilon": 0.95, "optim.schedule": "cosine"},
    ("cifar100", None): _SGD | {
        "method.rank": 5, "method.head_norm": True, "optim.head_lr": 0.01,
        "optim.weight_decay": 1e-3, "optim.schedule": "step", "optim.milestones": (18,),
        "optim.step_factor": 0.1,
    },
}
# fmt: on
