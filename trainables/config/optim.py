"""The keys `optim.…`: how each task is trained."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """How each task is trained."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """The optimizer, built anew for each task."""
    lr: float = 5e-4
    """Learning rate of what has no rate of its own."""
    alpha_lr: float | None = None
    """Learning rate of magnitudes (SD-LoRA); None: `lr`."""
    head_lr: float | None = 5e-3
    """Learning rate of heads; None: `lr`."""
    prompt_lr: float | None = None
    """Learning rate of prompts and of what chooses among them; None: `lr`."""
    momentum: float = 0.9
    """Of the optimizer "sgd"."""
    weight_decay: float = 0.0
    """Weight decay of what has none of its own."""
    alpha_weight_decay: float | None = None
    """Weight decay of magnitudes; None: `weight_decay`."""
    epochs: int = 5
    """Epochs a task."""
    batch_size: int = 64
    """Images a step."""
    micro_batch: int | None = None
    """How many images of a batch go through the network at once (None: all); the gradients
    add up to those of the whole batch, which needs less memory and more time."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's activations and products: "bfloat16" rounds the factors to 8 bits
    (autocast). Weights, heads, losses and the passes for moments and memories stay as they are:
    the same weights decide the same dimensions with either."""
    schedule: Literal["cosine", "constant", "step", "released_cosine", "released_cosine_once"] = (
        "cosine"
    )
    """Of all rates: "cosine" falls to 0 over the steps of a task; "step" multiplies by
    `step_factor`; "released_cosine" is InfLoRA's released one, lr · cos(99π e / (200 (K − 1)))
    over K epochs, its first value twice; "released_cosine_once" takes each value once, as
    CODA-Prompt's released code does."""
    milestones: tuple[int, ...] = ()
    """Epochs (from 0) at whose start the schedule "step" multiplies the rates."""
    step_factor: float = 0.1
    """What the schedule "step" multiplies the rates by."""
    clip_norm: float | None = None
    """The most that the gradient of all that learns may have as its norm (None: any)."""

    def __post_init__(self) -> None:
        for key in ("lr", "alpha_lr", "head_lr", "prompt_lr", "clip_norm"):
            value = getattr(self, key)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"optim.{key} must be a finite number above 0, but got {value}.")
        for key in ("epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"optim.{key} must be at least 1, but got {getattr(self, key)}.")
        if self.micro_batch is not None and not 1 <= self.micro_batch <= self.batch_size:
            raise ValueError(
                f"optim.micro_batch must be in [1, optim.batch_size] = [1, {self.batch_size}] or "
                f"null, but got {self.micro_batch}."
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optim.momentum must be in [0, 1), but got {self.momentum}.")
        for key in ("weight_decay", "alpha_weight_decay"):
            value = getattr(self, key)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(
                    f"optim.{key} must be a finite number of at least 0, but got {value}."
                )
        if not 0 < self.step_factor <= 1:
            raise ValueError(f"optim.step_factor must be in (0, 1], but got {self.step_factor}.")
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(
                f"optim.milestones must be given with optim.schedule step and be [] otherwise (a "
                f"recipe may have set them), but got {list(self.milestones)} with {self.schedule}."
            )
        if any(epoch < 1 for epoch in self.milestones):
            raise ValueError(
                f"optim.milestones must be epochs of at least 1, but got {list(self.milestones)}."
            )
