"""A LoRA branch per task, each trained from the pretrained weight, merged by averaging."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AveragedLoRAConfig:
    """Fields of averaged LoRA."""

    name: str = "averaged_lora"
    rank: int = 10
    """Rank r of each task's branches."""
    head_init: Literal["small_normal", "linear", "uniform_fan"] = "small_normal"
    """How a new task's head starts: small, as torch's linear layers, or uniform with deviation
    1/√width; see `start_head`."""

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")


REFERENCE = "merging baseline: tasks are trained apart and their updates averaged"
ADAPTS = ("q", "v")
