"""Figures: numbers in, a matplotlib figure out."""

from typing import TYPE_CHECKING

from study.system import door

if TYPE_CHECKING:
    from study.report.figures.tracked import (
        accuracy_csv,
        accuracy_picture,
        free_dimensions,
        free_dimensions_picture,
        front_picture,
    )
else:
    __getattr__ = door(
        __name__,
        {
            "tracked": (
                "accuracy_csv",
                "accuracy_picture",
                "free_dimensions",
                "free_dimensions_picture",
                "front_picture",
            ),
        },
    )

__all__ = [
    "accuracy_csv",
    "accuracy_picture",
    "free_dimensions",
    "free_dimensions_picture",
    "front_picture",
]
