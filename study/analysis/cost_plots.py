"""Figures of rank, memory and cost: numbers in, a matplotlib figure out."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from study.analysis import units
from study.analysis.cost_accuracy import CostPoint
from study.analysis.figures import WIDTH, grid_of, legend_below
from study.analysis.looks import OKABE_ITO, line_style, ticks
from study.analysis.overhead import Overhead
from study.analysis.plots import GREY, GRID, half
from study.analysis.pooled import EFFECT, Cloud
from study.analysis.rank_sensitivity import RankEffect

SIDES = ((8, 5), (8, -13), (-8, 5), (-8, -13))
"""Where the number of a point stands, in points from it."""
LEGEND_COLUMNS = 3


def rank_lines(effects: Sequence[RankEffect], metric: str, label: str) -> Figure:
    """The metric by rank, one line for each number of tasks, intervals drawn."""
    figure = Figure(figsize=(6.5, 3.9), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(effects):
        shift = 1.02 ** (place - (len(effects) - 1) / 2)
        axes.errorbar(
            [rank * shift for rank, _ in one.by_rank],
            [units.shown(metric, found.mean) for _, found in one.by_rank],
            yerr=[units.shown(metric, half(found.half)) for _, found in one.by_rank],
            capsize=4,
            label=f"{one.tasks} tasks",
            **line_style(place),
        )
    ranks = sorted({rank for one in effects for rank, _ in one.by_rank})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(one) for one in ranks])
    axes.minorticks_off()
    axes.set(title=label, xlabel="rank (log scale)", ylabel=units.heading(metric))
    axes.grid(axis="y", **GRID)
    legend_below(figure, columns=4)
    return figure


def memory_over_tasks(cells: Mapping[str, Overhead]) -> Figure:
    """What the memory takes, and what it would take to keep the branches, in MB."""
    figure, grid = grid_of(len(cells), across=2, height=3.4)
    for axes, (label, one) in zip(grid, cells.items(), strict=True):
        tasks = [row.task for row in one.rows]
        every = max(1, len(tasks) // 8)
        lines = {
            "subspace memory, measured": [row.measured.mean / units.MEGA for row in one.rows],
            "branches that merging saves": [row.saved / units.MEGA for row in one.rows],
        }
        for place, (name, values) in enumerate(lines.items()):
            axes.plot(tasks, values, label=name, **(line_style(place) | {"markevery": every}))
        known = [row for row in one.rows if row.measured.n > 1]
        axes.fill_between(
            [row.task for row in known],
            [row.measured.low / units.MEGA for row in known],
            [row.measured.high / units.MEGA for row in known],
            color=OKABE_ITO[0],
            alpha=0.15,
            linewidth=0,
        )
        if one.break_even is not None:
            axes.axvline(one.break_even, color=GREY, linewidth=1, linestyle=":")
        axes.set(title=label, xlabel="tasks seen", ylabel="MB")
        axes.set_ylim(bottom=0)
        axes.set_xticks(ticks(max(tasks), 6))
        axes.grid(axis="y", **GRID)
    legend_below(figure, columns=2)
    return figure


def forgetting_against_interference(one: Cloud) -> Figure:
    """A point a trial, by cell; labels leave out what all cells have in common."""
    rows = -(-len(one.cells) // LEGEND_COLUMNS)
    figure = Figure(figsize=(WIDTH, 3.4 + 0.24 * rows), layout="constrained")
    axes = figure.subplots()
    parts = [label.split(", ") for label, _ in one.cells]
    common = set(parts[0]).intersection(*parts[1:])
    for place, (own, (_, points)) in enumerate(zip(parts, one.cells, strict=True)):
        style = line_style(place) | {"linestyle": "none", "markersize": 6}
        axes.plot(
            [cause for cause, _ in points],
            [units.shown(EFFECT, effect) for _, effect in points],
            label=", ".join(part for part in own if part not in common) or ", ".join(own),
            **style,
        )
    axes.set(xlabel="interference, mean over tasks (0 to 1)", ylabel=units.heading(EFFECT))
    axes.grid(**GRID)
    legend_below(figure, columns=LEGEND_COLUMNS)
    return figure


def cost_against_accuracy(points: Sequence[CostPoint]) -> Figure:
    """Seconds of a run against final accuracy; the front is joined by steps."""
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    for front, marker, color in ((False, "o", "#8a8a8a"), (True, "D", OKABE_ITO[0])):
        found = [one for one in points if one.on_front == front]
        axes.errorbar(
            [one.seconds for one in found],
            [100 * one.accuracy.mean for one in found],
            yerr=[100 * half(one.accuracy.half) for one in found],
            linestyle="none",
            capsize=3,
            label="on the front (by the means)" if front else "others",
            marker=marker,
            color=color,
        )
    best = sorted((one for one in points if one.on_front), key=lambda one: one.seconds)
    axes.plot(
        [one.seconds for one in best],
        [100 * one.accuracy.mean for one in best],
        drawstyle="steps-post",
        color=OKABE_ITO[0],
        linewidth=1,
    )
    numbers = {one.cell: str(number) for number, one in enumerate(points, start=1)}
    for order, one in enumerate(sorted(points, key=lambda one: one.seconds)):
        place = (one.seconds, 100 * one.accuracy.mean)
        # Neighbours on different sides, so that numbers of near points do not meet.
        axes.annotate(
            numbers[one.cell],
            place,
            xytext=SIDES[order % len(SIDES)],
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    # Times are 0 where a ledger does not have them.
    logarithmic = all(one.seconds > 0 for one in points)
    if logarithmic:
        axes.set_xscale("log")
        for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(
        xlabel=f"compute seconds of one confirmation{' (log scale)' if logarithmic else ''}",
        ylabel="final test accuracy, %",
    )
    axes.grid(**GRID)
    axes.set_axisbelow(True)
    legend_below(figure, columns=2)
    return figure
