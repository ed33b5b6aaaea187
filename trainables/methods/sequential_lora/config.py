"""Sequential LoRA: one branch, trained on through all tasks, without protection."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SequentialLoRAConfig:
    """Fields of sequential LoRA."""

    name: str = "sequential_lora"
    rank: int = 10
    """Rank r of the one branch on every slice."""
    head_init: Literal["small_normal", "linear", "uniform_fan"] = "small_normal"
    """How a new task's head starts: small, as torch's linear layers, or uniform with deviation
    1/√width; see `start_head`."""

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")


REFERENCE = "low-rank lower bound: one branch for all tasks, nothing protects old ones"
ADAPTS = ("q", "v")
