"""Sequential full fine-tuning: the lower bound, nothing protects old tasks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SequentialConfig:
    """Sequential fine-tuning has no fields of its own: its learning rate is optim.lr."""

    name: str = "sequential"

    def check(self, width: int) -> None:
        """Accepts every width."""


REFERENCE = "lower bound: the whole network is trained, nothing protects old tasks"
ADAPTS: tuple[str, ...] = ()
