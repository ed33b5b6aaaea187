"""Frozen backbone and a linear head per task: what training the classifier alone gives."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LinearHeadsConfig:
    """Fields of linear heads; their learning rate is optim.head_lr."""

    name: str = "linear_heads"
    head_init: Literal["small_normal", "linear", "uniform_fan"] = "small_normal"
    """How a new task's head starts: small, as torch's linear layers, or uniform with deviation
    1/√width; see `start_head`."""

    def check(self, width: int) -> None:
        """Accepts every width."""


REFERENCE = "frozen backbone: only the heads are trained"
ADAPTS: tuple[str, ...] = ()
