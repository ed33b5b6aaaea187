"""The report's figures: numbers in, a matplotlib figure out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from matplotlib.figure import Figure

from study.report.figures.ends import Ends, name_lines
from study.report.figures.style import CALLED, GREY, GRID, half, line_style, ticks

if TYPE_CHECKING:
    # It loads scipy, half a second that a tracked trial's pictures do not need.
    from study.evidence import Interval

Table: TypeAlias = Mapping[str, Mapping[int, float]]

WIDTH = 9.0
"""Inches; at 100 pixels an inch, the width of the page's column."""
CHANCE: Mapping[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.3}


@dataclass(frozen=True)
class Panel:
    """One pair of axes of a figure with several: a table for one cell."""

    label: str
    table: Table
    rank: int = 0


def accuracy_over_tasks(
    panels: "Mapping[str, Mapping[str, Mapping[int, Interval]]]",
    styles: Mapping[str, int],
    chance: float | None,
    tasks: int | None,
) -> Figure:
    """Accuracy over all classes seen, mean and 95 % interval over seeds, one line a cell.

    `panels` are lines by their label, by the title of the axes that they share. `chance` is that
    over all classes; after fewer tasks there are fewer classes to guess from.
    """
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    counts = {
        label: max(mean.n for mean in curve.values())
        for lines in panels.values()
        for label, curve in lines.items()
        if curve
    }
    alike = len({*counts.values()}) == 1
    for axes, (title, lines) in zip(grid, panels.items(), strict=True):
        for label, curve in lines.items():
            if curve:
                name = label if alike else f"{label} (n = {counts[label]})"
                _curve(axes, curve, styles[label], name)
        if chance is not None and tasks:
            steps = range(1, tasks + 1)
            guessing = [min(100.0, 100 * chance * tasks / step) for step in steps]
            axes.plot(steps, guessing, label="chance", zorder=3, **CHANCE)
        axes.set(title=title, xlabel="tasks seen")
        _whole_numbers(axes, tasks, 10 // len(panels))
        _frame(axes)
    seeds = f", n = {counts.popitem()[1]}" if alike else ""
    grid[0].set_ylabel(f"test accuracy over classes seen, %{seeds}")
    names_or_legend(figure, columns=4)
    return figure


def final_over_tasks(
    lines: "Mapping[str, Mapping[int, Interval]]", styles: Mapping[str, int]
) -> Figure:
    """Final accuracy against the length of the sequence, one line a method, intervals drawn."""
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    axes = figure.subplots()
    lengths = sorted({task for curve in lines.values() for task in curve})
    for place, (label, curve) in enumerate(lines.items()):
        # A small shift keeps the error bars of two methods from hiding each other.
        shift = 1.012 ** (place - (len(lines) - 1) / 2)
        tasks = sorted(curve)
        axes.errorbar(
            [task * shift for task in tasks],
            [100 * curve[task].mean for task in tasks],
            yerr=[100 * half(curve[task].half) for task in tasks],
            capsize=4,
            label=label,
            **line_style(styles[label]),
        )
    axes.set_xscale("log")
    axes.set_xticks(lengths, [str(task) for task in lengths])
    axes.minorticks_off()
    axes.set(xlabel="tasks in the sequence (log scale)", ylabel="final test accuracy, %")
    _frame(axes)
    names_or_legend(figure, columns=4)
    return figure


def free_dimensions(panels: Sequence[Panel]) -> Figure:
    """Free dimensions by tasks seen, one line a layer; crosses where the rank is undercut."""
    figure, grid = grid_of(len(panels), across=2, height=4.0)
    names = list(dict.fromkeys(layer for panel in panels for layer in panel.table))
    most = max(dim for panel in panels for dims in panel.table.values() for dim in dims.values())
    for axes, panel in zip(grid, panels, strict=True):
        for layer, dims in panel.table.items():
            look = line_style(names.index(layer)) | {"markevery": _every(dims)}
            axes.plot(list(dims), list(dims.values()), label=layer, **look)
            short = next((task for task, dim in dims.items() if dim < panel.rank), None)
            if short is not None:
                mark = {"s": 110, "color": look["color"], "marker": "x", "linewidths": 2.5}
                axes.scatter([short], [dims[short]], zorder=4, clip_on=False, **mark)
        if panel.rank:
            axes.axhline(panel.rank, color=GREY, linewidth=1.1, linestyle=(0, (1, 1)))
            axes.annotate(
                f"rank {panel.rank}",
                (0, panel.rank),
                xycoords=("axes fraction", "data"),
                xytext=(4, 2),
                textcoords="offset points",
                fontsize=9,
                color=GREY,
            )
        axes.set(title=panel.label, xlabel="tasks seen", ylabel="free dimensions of the input")
        axes.set_ylim(0, 1.05 * max(most, panel.rank, 1))
        _whole_numbers(axes, max((max(dims) for dims in panel.table.values()), default=None), 6)
        axes.grid(axis="y", **GRID)
    names_or_legend(figure, columns=6)
    return figure


def free_heat_map(panels: Sequence[Panel]) -> Figure:
    """Share of each layer's input dimensions that is free, layer by tasks seen."""
    layers = max(len(panel.table) for panel in panels)
    figure, grid = grid_of(len(panels), across=2, height=1.6 + 0.22 * layers)
    for axes, panel in zip(grid, panels, strict=True):
        names = list(panel.table)
        tasks = max(max(shares) for shares in panel.table.values())
        rows = [
            [100 * panel.table[name].get(task, math.nan) for task in range(1, tasks + 1)]
            for name in names
        ]
        image = _picture(axes, rows, tasks, (0.0, 100.0))
        axes.set_yticks(range(1, len(names) + 1), names)
        axes.set(title=panel.label, xlabel="tasks seen")
        axes.set_xticks(ticks(tasks, most=6))
    figure.colorbar(image, ax=grid, label="free, % of dimensions", shrink=0.95, pad=0.015)
    return figure


def matrices(panels: Mapping[str, Sequence[Sequence[float]]], what: str, columns: str) -> Figure:
    """Lower triangles, row t after t tasks: accuracy on each task (in %), or magnitudes."""
    share = what.endswith("%")
    figure, grid = grid_of(len(panels), across=3, height=3.3)
    values = [x for table in panels.values() for row in table for x in row if not math.isnan(x)]
    limits = (0.0, 100.0) if share else (min(0.0, *values), max(0.0, *values))
    for axes, (label, table) in zip(grid, panels.items(), strict=True):
        width = max(len(row) for row in table)
        rows = [
            [(100 * value if share else value) for value in row] + [math.nan] * (width - len(row))
            for row in table
        ]
        image = _picture(axes, rows, width, limits)
        axes.set(title=label, xlabel=columns, ylabel="tasks seen")
        axes.set_xticks(ticks(width, most=6))
        axes.set_yticks(ticks(len(rows), most=6))
    figure.colorbar(image, ax=grid, label=what, shrink=0.9, pad=0.015)
    return figure


def grid_of(panels: int, across: int, height: float) -> tuple[Figure, list[Any]]:
    """A figure with that many axes, `across` in a row of `height` inches; a single one is wide."""
    columns = min(across, panels)
    rows = math.ceil(panels / columns)
    width = WIDTH if panels > 1 else 6.5
    figure = Figure(figsize=(width, 0.5 + height * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in grid[panels:]:
        axes.remove()
    return figure, grid[:panels]


def _picture(
    axes: Any, rows: Sequence[Sequence[float]], width: int, limits: tuple[float, float]
) -> Any:
    """Draws a table so that the centre of its first entry is at (1, 1), the first row on top."""
    extent = (0.5, width + 0.5, len(rows) + 0.5, 0.5)
    low, high = limits
    options = {"aspect": "auto", "cmap": "viridis", "interpolation": "nearest"}
    return axes.imshow(rows, extent=extent, vmin=low, vmax=high, **options)


def _curve(axes: Any, curve: "Mapping[int, Interval]", index: int, label: str) -> None:
    tasks = sorted(curve)
    look = line_style(index)
    means = [100 * curve[task].mean for task in tasks]
    axes.plot(tasks, means, label=label, markevery=_every(curve), **look)
    known = [task for task in tasks if curve[task].n > 1]
    low = [100 * max(0.0, curve[task].low) for task in known]
    high = [100 * min(1.0, curve[task].high) for task in known]
    band = axes.fill_between(known, low, high, color=look["color"], alpha=0.15, linewidth=0)
    band.set_gid(CALLED + label)


def _every(curve: Mapping[int, Any]) -> int:
    return max(1, len(curve) // 10)


def _frame(axes: Any) -> None:
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", **GRID)


def _whole_numbers(axes: Any, tasks: int | None, most: int = 10) -> None:
    if tasks:
        axes.set_xticks(ticks(tasks, most))
        margin = 0.02 * max(1, tasks - 1)
        axes.set_xlim(1 - margin, tasks + margin)


def names_or_legend(figure: Figure, columns: int, ends: Ends | None = None) -> None:
    """The name of each line at its end, or a legend where they do not find room there.

    `ends` are the ends of lines whose handle has another one.
    """
    if not name_lines(figure, ends or {}):
        legend_below(figure, columns)


def legend_below(figure: Figure, columns: int) -> None:
    """One legend for all axes, below them, where it cannot cover anything."""
    known: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        known |= dict(zip(labels, handles, strict=True))
    # About 100 characters fit beside each other, less what each line's sample takes.
    longest = max(map(len, known), default=0)
    columns = min(columns, max(1, 100 // (longest + 9)))
    if known:
        options = {"loc": "outside lower center", "handlelength": 3.2}
        figure.legend(list(known.values()), list(known), ncols=min(columns, len(known)), **options)


def plasticity_against_forgetting(
    points: "Mapping[str, tuple[Interval, Interval]]", styles: Mapping[str, int]
) -> Figure:
    """A point a cell, by its label: (forgetting, plasticity), both as shares."""
    figure = Figure(figsize=(WIDTH, 3.6 + 0.12 * len(points)), layout="constrained")
    axes = figure.subplots()
    for label, (forgetting, plasticity) in points.items():
        axes.errorbar(
            [100 * forgetting.mean],
            [100 * plasticity.mean],
            xerr=[100 * half(forgetting.half)],
            yerr=[100 * half(plasticity.half)],
            label=label,
            elinewidth=0.9,
            capsize=2,
            **(line_style(styles[label]) | {"linestyle": "none", "markersize": 7}),
        )
    axes.set(xlabel="forgetting, points", ylabel="plasticity, %")
    axes.grid(**GRID)
    legend_below(figure, columns=3)
    return figure
