"""The keys `evaluation.…`: what a confirmation measures beside what every trial does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationConfig:
    """What a confirmation measures beside what every trial does."""

    during: int | None = None
    """Steps between two evaluations of old tasks while a later one is trained (None: none), for
    `stability_gap` and `minimum_accuracy`; each takes a pass over the test images of all old
    tasks. Read by confirmations alone, and changes no training."""

    def __post_init__(self) -> None:
        if self.during is not None and self.during < 1:
            raise ValueError(
                f"evaluation.during must be at least 1 or null, but got {self.during}."
            )
