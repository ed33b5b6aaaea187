"""Joint training: the upper bound, which keeps the images of all tasks seen and trains on them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class JointConfig:
    """Fields of joint training."""

    name: str = "joint"
    budget: Literal["task", "cumulative"] = "task"
    """What a task may cost: "task" spends what every other method does (an epoch draws as many
    of all images seen as the new task brought), "cumulative" goes over all of them."""
    trains: Literal["branches", "backbone"] = "branches"
    """One branch per slice, which goes on through all tasks, or every weight of the backbone."""
    rank: int = 10
    """Rank r of the branches."""
    head_init: Literal["small_normal", "linear", "uniform_fan"] = "small_normal"
    """How a new task's head starts: small, as torch's linear layers, or uniform with deviation
    1/√width; see `start_head`."""

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")


REFERENCE = "upper bound: trains on the images of all tasks seen"
ADAPTS = ("q", "v")
