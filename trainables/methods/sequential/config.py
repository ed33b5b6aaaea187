"""Sequential full fine-tuning: the lower bound, nothing protects old tasks."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SequentialConfig:
    """Fields of sequential fine-tuning; its learning rate is optim.lr."""

    name: str = "sequential"
    head_init: Literal["small_normal", "linear", "uniform_fan"] = "small_normal"
    """How a new task's head starts: small, as torch's linear layers, or uniform with deviation
    1/√width; see `start_head`."""

    def check(self, width: int) -> None:
        """Accepts every width."""


REFERENCE = "lower bound: the whole network is trained, nothing protects old tasks"
ADAPTS: tuple[str, ...] = ()
