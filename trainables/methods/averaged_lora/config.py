"""A LoRA branch per task, each trained from the pretrained weight, merged by averaging."""

from dataclasses import dataclass

from trainables.config import HeadFields


@dataclass(frozen=True)
class AveragedLoRAConfig(HeadFields):
    """Fields of averaged LoRA."""

    name: str = "averaged_lora"
    rank: int = 10
    """Rank r of each task's branches."""

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold, and a head that cannot be."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")
        self.check_head()


REFERENCE = "merging baseline: tasks are trained apart and their updates averaged"
ADAPTS = ("q", "v")
