"""Forest plot: the intervals of contrasts, one below the other, against 0 and the margins."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from study.report.figures.style import CALLED, GREY, GRID, OKABE_ITO

LOOKS: Mapping[str, tuple[str, str, str]] = {
    "higher": (">", OKABE_ITO[0], OKABE_ITO[0]),
    "lower": ("<", OKABE_ITO[1], OKABE_ITO[1]),
    "equal": ("s", OKABE_ITO[2], OKABE_ITO[2]),
    "identical": ("D", OKABE_ITO[6], OKABE_ITO[6]),
    "undecided": ("o", GREY, "white"),
}
"""Of each verdict its marker, with colours of line and face."""
BAND = "#e8eef2"
"""Where differences are within the margin."""
WIDTH = 5.3
"""Inches: beside the answer on a laptop, below it on a phone, where its words can still be read."""
ROW, NOTED, FRAME = 0.46, 0.17, 0.75
"""Inches of a row, of a note below its label, and of all that is around the rows."""
MOST_LETTERS = 56
"""Of a label and its note, which stand in one line where they fit."""


@dataclass(frozen=True)
class ForestRow:
    """A contrast: `mean` and the ends of its interval, NaN where there is none.

    `margin` is in the same unit; `note` says in words what came out.
    """

    label: str
    mean: float
    low: float
    high: float
    margin: float
    verdict: str
    note: str


def forest(rows: Sequence[ForestRow], what: str) -> Figure:
    """One row a contrast, the first on top, its words above it; `what` names the axis."""
    fits = all(len(row.label) + len(row.note) <= MOST_LETTERS for row in rows)
    row_height = ROW + (0.0 if fits else NOTED)
    figure = Figure(figsize=(WIDTH, FRAME + len(rows) * row_height), layout="constrained")
    axes = figure.subplots()
    # In rows: where the words stand above the interval, and how far the next line is below them.
    words, below = 0.11 / row_height, NOTED / row_height
    for place, row in enumerate(rows):
        marker, line, face = LOOKS[row.verdict]
        look: dict[str, Any] = {
            "marker": marker,
            "color": line,
            "markerfacecolor": face,
            "markersize": 7,
        }
        middle, name = place + 0.5 - 0.12 / row_height, f"{CALLED}{row.label}: {row.note}"
        # Around the interval alone: words are read on white.
        band = (middle - 0.12 / row_height, middle + 0.12 / row_height)
        axes.fill_betweenx(band, -row.margin, row.margin, color=BAND, linewidth=0, zorder=0)
        if math.isfinite(row.low):
            ends = (row.low, row.high)
            axes.plot(ends, (middle, middle), color=line, linewidth=2.2, zorder=2, gid=name)
        if math.isfinite(row.mean):
            axes.plot([row.mean], [middle], linestyle="none", zorder=3, gid=name, **look)
        top = place - 0.5 + words
        told: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
        told["bbox"] = {"facecolor": "white", "linewidth": 0, "pad": 0.5}
        axes.text(0, top, row.label, ha="left", fontsize=10.5, **told)
        note = (1, top, "right") if fits else (0, top + below, "left")
        weight = "normal" if row.verdict == "undecided" else "bold"
        axes.text(*note[:2], row.note, ha=note[2], fontsize=10, fontweight=weight, **told)
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(*_limits(rows))
    axes.set_xlabel(
        f"second higher  \N{LEFTWARDS ARROW}  {what}  \N{RIGHTWARDS ARROW}  first higher"
    )
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", **GRID)
    return figure


def _limits(rows: Sequence[ForestRow]) -> tuple[float, float]:
    """Everything that is finite, 0 and the margins, with some air at both ends."""
    ends = [end for row in rows for end in (row.low, row.mean, row.high) if math.isfinite(end)]
    margins = [sign * 1.5 * row.margin for row in rows for sign in (-1, 1)]
    low, high = min(ends + margins), max(ends + margins)
    air = 0.04 * (high - low)
    return low - air, high + air
