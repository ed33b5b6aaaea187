"""Forest plot: the intervals of contrasts, one below the other, against 0 and the margins."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from study.report.figures.plots import WIDTH
from study.report.figures.style import GREY, GRID, OKABE_ITO

LOOKS: Mapping[str, tuple[str, str, str]] = {
    "higher": (">", OKABE_ITO[0], OKABE_ITO[0]),
    "lower": ("<", OKABE_ITO[1], OKABE_ITO[1]),
    "equal": ("s", OKABE_ITO[2], OKABE_ITO[2]),
    "identical": ("D", OKABE_ITO[6], OKABE_ITO[6]),
    "undecided": ("o", GREY, "white"),
}
"""Of each verdict its marker, with colours of line and face; their order is that of the key."""
BAND = "#e8eef2"
"""Where differences are within the margin."""
ROW, FRAME = 0.36, 1.2
"""Inches of a row, and of all that is around the rows."""


@dataclass(frozen=True)
class ForestRow:
    """A contrast: `mean` and the ends of its interval, NaN where there is none.

    `margin` is in the same unit; `note` stands at the right.
    """

    label: str
    mean: float
    low: float
    high: float
    margin: float
    verdict: str
    note: str


def forest(rows: Sequence[ForestRow], what: str) -> Figure:
    """One row a contrast, the first on top; `what` names the horizontal axis."""
    lines = max(row.label.count("\n") + 1 for row in rows)
    height = FRAME + len(rows) * (ROW + 0.14 * (lines - 1))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.fill_betweenx(
            (place - 0.5, place + 0.5), -row.margin, row.margin, color=BAND, linewidth=0, zorder=0
        )
        marker, line, face = LOOKS[row.verdict]
        look: dict[str, Any] = {
            "marker": marker,
            "color": line,
            "markerfacecolor": face,
            "markersize": 7,
        }
        if math.isfinite(row.low):
            axes.plot((row.low, row.high), (place, place), color=line, linewidth=1.8, zorder=2)
        if math.isfinite(row.mean):
            axes.plot([row.mean], [place], linestyle="none", zorder=3, **look)
        axes.annotate(
            row.note,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(*_limits(rows))
    axes.set_xlabel(what)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", **GRID)
    _key(figure, [verdict for verdict in LOOKS if verdict in {row.verdict for row in rows}])
    return figure


def _limits(rows: Sequence[ForestRow]) -> tuple[float, float]:
    """Everything that is finite, 0 and the margins, with some air at both ends."""
    ends = [end for row in rows for end in (row.low, row.mean, row.high) if math.isfinite(end)]
    margins = [sign * 1.5 * row.margin for row in rows for sign in (-1, 1)]
    low, high = min(ends + margins), max(ends + margins)
    air = 0.04 * (high - low)
    return low - air, high + air


def _key(figure: Figure, verdicts: Sequence[str]) -> None:
    """What the markers and the band mean, below the axes."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], linestyle="none", marker=marker, color=line, markerfacecolor=face)
        for marker, line, face in (LOOKS[verdict] for verdict in verdicts)
    ]
    figure.legend(
        [*handles, Patch(color=BAND)],
        [*verdicts, "within the margin"],
        loc="outside lower center",
        ncols=len(handles) + 1,
    )
