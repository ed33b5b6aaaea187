"""Figures of trends, forecasts and importance: numbers in, a matplotlib figure out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from study.analysis import units
from study.analysis.exhaustion import LayerForecast
from study.analysis.figures import WIDTH, grid_of, legend_below
from study.analysis.importance import Importance
from study.analysis.looks import OKABE_ITO, line_style, ticks
from study.analysis.trends import Trend

POINTS = 10
"""About so many points of a curve have their interval drawn."""
GREY = "#555555"
GRID: Mapping[str, Any] = {"color": "#e4e4e4", "linewidth": 0.8}


def trends_over_tasks(metric: str, name: str, lines: Mapping[str, Trend], what: str) -> Figure:
    """Measured means with their intervals, the fitted curves, dashed beyond the data.

    `name` is what people call the metric, `what` the horizontal axis.
    """
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    last = max(one.data_range[1] for one in lines.values())
    for place, (label, one) in enumerate(lines.items()):
        look = line_style(place)
        color = look["color"]
        # Of a long curve some points, and not the same ones as of the next line.
        step = max(1, len(one.means) // POINTS)
        shown = one.means[place % step :: step]
        axes.errorbar(
            [x for x, _ in shown],
            [units.shown(metric, found.mean) for _, found in shown],
            yerr=[units.shown(metric, half(found.half)) for _, found in shown],
            label=f"{label} ({one.model})",
            **{**look, "linestyle": "none", "capsize": 3},
        )
        for part, dashes in ((False, "-"), (True, (0, (4, 2)))):
            # Beyond the data from its last point on, so that there is no gap.
            found = [p for p in one.predictions if p.extrapolated == part]
            if part:
                edge = [p for p in one.predictions if p.x == one.data_range[1]]
                found = [*edge, *(p for p in found if p.x > one.data_range[1])]
            x = [p.x for p in found]
            y = [units.shown(metric, p.value) for p in found]
            axes.plot(x, y, color=color, linestyle=dashes, linewidth=1.6)
            # In print the marker alone tells which line ends here.
            axes.plot(x[-1:], y[-1:], color=color, marker=look["marker"], linestyle="none")
            low = [units.shown(metric, p.low) for p in found]
            high = [units.shown(metric, p.high) for p in found]
            axes.fill_between(x, low, high, color=color, alpha=0.06 if part else 0.14, linewidth=0)
    axes.axvline(last, color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        "extrapolated",
        (last, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -10),
        textcoords="offset points",
        color=GREY,
        fontsize=9,
    )
    axes.set(xlabel=what, ylabel=f"{name}, {units.unit(metric)}")
    if units.unit(metric) == "%":
        axes.set_ylim(*_within(axes.get_ylim()))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", **GRID)
    legend_below(figure, columns=3)
    return figure


def _within(limits: tuple[float, float]) -> tuple[float, float]:
    """No share lies outside of 0 to 100 %, whatever an interval of few seeds says."""
    return max(0.0, limits[0]), min(103.0, limits[1])


def predicted_exhaustion(cells: Mapping[str, Sequence[LayerForecast]]) -> Figure:
    """For each layer the predicted task with its interval, and the tasks at which it ran out."""
    most = max(len(one) for one in cells.values())
    figure, grid = grid_of(len(cells), across=2, height=1.5 + 0.28 * most)
    blue, red = OKABE_ITO[0], OKABE_ITO[1]
    for axes, (label, layers) in zip(grid, cells.items(), strict=True):
        tasks = layers[0].tasks
        axes.axvspan(0.5, layers[0].fitted_to + 0.5, color="#e9e9e9", linewidth=0)
        # What lies beyond the tasks that were run is drawn at the border.
        border = 1.12 * tasks
        for row, one in enumerate(layers):
            if one.reason == "":
                ends = [border if end is None else min(end, border) for end in (one.low, one.high)]
                axes.plot(ends, [row, row], color=blue, linewidth=3, solid_capstyle="butt")
                place = border if one.task is None else min(one.task, border)
                look: dict[str, Any] = {"color": blue, "linestyle": "none", "markersize": 7}
                marker = ">" if place == border else "o"
                axes.plot([place], [row], marker=marker, clip_on=False, **look)
            seen = [other.task for other in one.observed if other.task is not None]
            axes.plot(seen, [row] * len(seen), "x", color=red, markersize=8, markeredgewidth=2)
        axes.axvline(tasks, color=GREY, linewidth=1, linestyle=":")
        axes.set(
            title=label, xlabel="tasks seen", xlim=(0.5, border), ylim=(len(layers) - 0.4, -0.6)
        )
        axes.set_yticks(range(len(layers)), [one.layer for one in layers])
        axes.set_xticks(ticks(tasks, 6))
    handles = [
        grid[0].plot([], [], color=blue, marker="o", linewidth=3)[0],
        grid[0].plot([], [], color=blue, marker=">", linestyle="none")[0],
        grid[0].plot([], [], "x", color=red, markersize=8, markeredgewidth=2)[0],
        grid[0].axvspan(math.nan, math.nan, color="#e9e9e9"),
    ]
    columns = 4 if len(cells) > 1 else 2
    words = ["predicted, 95 %", "not before the last task", "seen, one trial", "tasks fitted"]
    figure.legend(handles, words, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def importances(cells: Mapping[str, Importance]) -> Figure:
    """Share of each key with the range over half-samples, and what chance alone would give."""
    most = max(len(one.keys) for one in cells.values())
    figure, grid = grid_of(len(cells), across=2, height=1.3 + 0.34 * most)
    for axes, (label, one) in zip(grid, cells.items(), strict=True):
        names = [key.key for key in one.keys]
        shares = [100 * key.share for key in one.keys]
        rows = range(len(names))
        axes.barh(rows, shares, color=OKABE_ITO[5], edgecolor=OKABE_ITO[0], height=0.6)
        axes.hlines(
            rows,
            [100 * key.low for key in one.keys],
            [100 * key.high for key in one.keys],
            color="#000000",
            linewidth=1.6,
        )
        chance = [100 * key.chance for key in one.keys]
        axes.plot(chance, rows, "|", color=OKABE_ITO[1], markersize=15, markeredgewidth=2.5)
        axes.set(title=label, xlabel="share of importance, %", xlim=(0, 102))
        axes.set_yticks(rows, names)
        axes.invert_yaxis()
        axes.grid(axis="x", **GRID)
        axes.set_axisbelow(True)
    return figure


def half(value: float) -> float:
    """Half an interval; 0 where there is none."""
    return 0.0 if math.isnan(value) else value
