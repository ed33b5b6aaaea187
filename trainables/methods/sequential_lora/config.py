"""Sequential LoRA: one branch, trained on through all tasks, without protection."""

from dataclasses import dataclass

from trainables.config import HeadFields


@dataclass(frozen=True)
class SequentialLoRAConfig(HeadFields):
    """Fields of sequential LoRA."""

    name: str = "sequential_lora"
    rank: int = 10
    """Rank r of the one branch on every slice."""

    def check(self, width: int) -> None:
        """Refuses a rank that layers of `width` inputs cannot hold, and a head that cannot be."""
        if not 1 <= self.rank <= width:
            raise ValueError(f"method.rank must be in [1, {width}], but got {self.rank}.")
        self.check_head()


REFERENCE = "no protection: one low-rank branch is trained on one task after the other"
ADAPTS = ("q", "v")
