"""Stability against plasticity: what cells forget of old tasks and reach on new ones."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from study.analysis.figures import WIDTH, legend_below
from study.analysis.looks import line_style
from study.analysis.plots import GRID, half
from study.analysis.scaling import Interval

CAPTION = (
    "Plasticity: mean accuracy on each task right after learning it; forgetting: what was lost of "
    "the best of each task at the end. Mean over seeds with 95 % t-intervals; up and to the left "
    "is better."
)
LEGEND_COLUMNS = 3


def plasticity_against_forgetting(
    points: Mapping[str, tuple[Interval, Interval]], styles: Mapping[str, int]
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
    legend_below(figure, columns=LEGEND_COLUMNS)
    return figure


def known(cells: Sequence[tuple[str, Interval, Interval]]) -> dict[str, tuple[Interval, Interval]]:
    """The cells that have both, forgetting and plasticity; sequences of one task have neither."""
    return {label: (a, b) for label, a, b in cells if a.n and b.n}
