"""What numbers show: intervals and paired tests, in plain numbers."""

from typing import TYPE_CHECKING

from study.system import door

if TYPE_CHECKING:
    from study.evidence.intervals import (
        LEAST_SEEDS,
        LEVEL,
        Comparison,
        Interval,
        NotEnough,
        count,
        interval,
        welch,
    )
else:
    __getattr__ = door(
        __name__,
        {
            "intervals": (
                "LEAST_SEEDS",
                "LEVEL",
                "Comparison",
                "Interval",
                "NotEnough",
                "count",
                "interval",
                "welch",
            )
        },
    )

__all__ = [
    "LEAST_SEEDS",
    "LEVEL",
    "Comparison",
    "Interval",
    "NotEnough",
    "count",
    "interval",
    "intervals",
    "welch",
]
