"""What accuracy costs: cells of the same data, by the seconds and the accuracy of a run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from study.analysis.summary import CellSummary, by_data
from study.evidence import Interval
from study.report.figures.plots import WIDTH, legend_below
from study.report.figures.style import CALLED, GRID, MOST_PANELS, OKABE_ITO, half
from study.report.section import Block, Findings, Picture, Section, Table
from study.report.wording import with_interval

TITLE = "What accuracy costs"
COST = (
    "Accuracy: mean over seeds with the 95 % t-interval; seconds: designing, training, absorbing "
    "and evaluating in one confirmation, which depend on the machine and on what ran beside it. "
    "Numbers are those of the table."
)
SIDES = ((8, 5), (8, -13), (-8, 5), (-8, -13))
"""Where the number of a point stands, in points from it."""


@dataclass(frozen=True)
class CostPoint:
    """A cell among those on the same `data` (what sets it apart, as words).

    `seconds` is the mean compute time of one confirmation, `accuracy` the final one over seeds.
    `on_front` says that no other cell is as cheap and as accurate by their means.
    """

    cell: str
    label: str
    data: str
    seconds: float
    accuracy: Interval
    on_front: bool


def section(findings: Findings) -> Section:
    """A figure and a table for each data; nothing on the page where none has two cells."""
    costs = cost_accuracy(findings.cells)
    blocks: list[Block] = []
    for data in dict.fromkeys(point.data for point in costs):
        points = [point for point in costs if point.data == data]
        if len(points) < 2:
            continue
        rows = [
            {
                "number": str(place),
                "cell": point.label,
                "final accuracy, %": with_interval(point.accuracy),
                "compute, s": f"{point.seconds:.3g}",
                "on the front (by the means)": "yes" if point.on_front else "no",
            }
            for place, point in enumerate(points, start=1)
        ]
        draw = partial(cost_against_accuracy, points)
        blocks.append(Picture(f"Same data: {data}", COST, draw))
        blocks.append(Table(rows, ("number", "final accuracy, %", "compute, s")))
    # A figure and a table each.
    return Section(TITLE, tuple(blocks[: 2 * MOST_PANELS]), {"deeper": {"costs": costs}})


def cost_accuracy(cells: Sequence[CellSummary]) -> list[CostPoint]:
    """All confirmed cells, by data, the most accurate first."""
    costs = []
    for data, own in by_data([cell for cell in cells if cell.final.n]).items():
        seconds = {
            cell.cell: fmean(trial.compute_seconds for trial in cell.confirmed) for cell in own
        }
        front, best = set(), -math.inf
        # The fastest first: on the front is what is more accurate than all before it.
        for cell in sorted(own, key=lambda cell: (seconds[cell.cell], -cell.final.mean)):
            if cell.final.mean > best:
                front.add(cell.cell)
                best = cell.final.mean
        costs += [
            CostPoint(name, cell.label, data, seconds[name], cell.final, name in front)
            for cell in sorted(own, key=lambda cell: -cell.final.mean)
            for name in (cell.cell,)
        ]
    return costs


def cost_against_accuracy(points: Sequence[CostPoint]) -> Figure:
    """Seconds of a run against final accuracy; the front is joined by steps."""
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    for on_front, marker, color in ((False, "o", "#8a8a8a"), (True, "D", OKABE_ITO[0])):
        shown = [point for point in points if point.on_front == on_front]
        axes.errorbar(
            [point.seconds for point in shown],
            [100 * point.accuracy.mean for point in shown],
            yerr=[100 * half(point.accuracy.half) for point in shown],
            linestyle="none",
            capsize=3,
            label="on the front (by the means)" if on_front else "others",
            marker=marker,
            color=color,
        )
    best = sorted((point for point in points if point.on_front), key=lambda point: point.seconds)
    axes.plot(
        [point.seconds for point in best],
        [100 * point.accuracy.mean for point in best],
        drawstyle="steps-post",
        color=OKABE_ITO[0],
        linewidth=1,
    )
    by_time = sorted(enumerate(points, start=1), key=lambda numbered: numbered[1].seconds)
    for order, (number, point) in enumerate(by_time):
        # Neighbours on different sides, so that numbers of near points do not meet.
        axes.annotate(
            str(number),
            (point.seconds, 100 * point.accuracy.mean),
            xytext=SIDES[order % len(SIDES)],
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
        # What cannot be seen tells the name of the point that it lies on.
        place = [point.seconds], [100 * point.accuracy.mean]
        axes.plot(*place, marker="o", markersize=13, alpha=0, gid=CALLED + point.label)
    # Times are 0 where a ledger does not have them.
    logarithmic = all(point.seconds > 0 for point in points)
    if logarithmic:
        axes.set_xscale("log")
        for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            set_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(
        xlabel=f"compute seconds of one confirmation{' (log scale)' if logarithmic else ''}",
        ylabel="final test accuracy, %",
    )
    axes.grid(**GRID)
    legend_below(figure, columns=2)
    return figure
