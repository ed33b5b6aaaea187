"""Frozen backbone and a linear head per task: what training the classifier alone gives."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LinearHeadsConfig:
    """Linear heads have no fields of their own: their learning rate is optim.head_lr."""

    name: str = "linear_heads"

    def check(self, width: int) -> None:
        """Accepts every width."""


REFERENCE = "frozen backbone: only the heads are trained"
ADAPTS: tuple[str, ...] = ()
