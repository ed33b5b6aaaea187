"""Sequential full fine-tuning: nothing protects old tasks."""

from dataclasses import dataclass

from trainables.config import HeadFields


@dataclass(frozen=True)
class SequentialConfig(HeadFields):
    """Fields of sequential fine-tuning; its learning rate is optim.lr."""

    name: str = "sequential"

    def check(self, width: int) -> None:
        """Accepts every width; refuses a head that cannot be."""
        self.check_head()


REFERENCE = "no protection: the whole network is trained on one task after the other"
ADAPTS: tuple[str, ...] = ()
