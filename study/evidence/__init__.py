"""What numbers show: intervals, paired tests, looks at contrasts, in plain numbers."""

from typing import TYPE_CHECKING

from study.system import door

if TYPE_CHECKING:
    from study.evidence.boundaries import Design
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
    from study.evidence.looks import Look, Reason, Verdict, further_seeds, look
    from study.evidence.power import seeds_for, seeds_to_decide, smallest_difference
else:
    __getattr__ = door(
        __name__,
        {
            "boundaries": ("Design",),
            "intervals": (
                "LEAST_SEEDS",
                "LEVEL",
                "Comparison",
                "Interval",
                "NotEnough",
                "count",
                "interval",
                "welch",
            ),
            "looks": ("Look", "Reason", "Verdict", "further_seeds", "look"),
            "power": ("seeds_for", "seeds_to_decide", "smallest_difference"),
        },
    )

__all__ = [
    "LEAST_SEEDS",
    "LEVEL",
    "Comparison",
    "Design",
    "Interval",
    "Look",
    "NotEnough",
    "Reason",
    "Verdict",
    "count",
    "further_seeds",
    "interval",
    "intervals",
    "look",
    "seeds_for",
    "seeds_to_decide",
    "smallest_difference",
    "welch",
]
