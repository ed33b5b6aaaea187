"""Pictures of Pareto fronts: every setting that was tried, and those that none outdoes."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from study.analysis import units
from study.analysis.looks import OKABE_ITO

TRIED, FRONT = "#8a8a8a", OKABE_ITO[0]


def front_picture(
    objective: Mapping[str, str],
    tried: Sequence[Mapping[str, float]],
    front: Mapping[int, Mapping[str, float]],
    title: str,
) -> Figure:
    """The first objective against each other one.

    With two objectives the front is joined by steps: between two of its settings none is known.

    Args:
        objective: metric to max or min.
        tried: values of all settings whose search trial completed.
        front: values of the settings on the front, by their number.
        title: above the picture; none if empty.
    """
    first, *others = objective
    figure = Figure(figsize=(6.5 if len(others) == 1 else 9.0, 4.2), layout="constrained")
    grid = figure.subplots(1, len(others), squeeze=False)[0]
    for axes, other in zip(grid, others, strict=True):
        pair = (other, first)
        look: dict[str, Any] = {"linestyle": "none", "zorder": 2, "clip_on": False}
        axes.plot(
            *_points(tried, pair),
            marker="o",
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=TRIED,
            label="setting tried in the search",
            **look,
        )
        if len(objective) == 2:
            # Up to the next setting the one before is the best there is.
            less = objective[other] == "min"
            values = sorted(
                zip(*_points(list(front.values()), pair), strict=True), reverse=not less
            )
            axes.plot(*zip(*values, strict=True), drawstyle="steps-post", color=FRONT, zorder=1)
        axes.plot(
            *_points(list(front.values()), pair),
            marker="D",
            color=FRONT,
            label="on the Pareto front",
            **look,
        )
        for number, point in front.items():
            if all(key in point for key in pair):
                place = tuple(units.shown(key, point[key]) for key in pair)
                offset = {"xytext": (6, 5), "textcoords": "offset points", "fontsize": 9}
                axes.annotate(str(number), place, color=FRONT, **offset)
        axes.set(xlabel=_axis(other, objective), ylabel=_axis(first, objective))
        axes.margins(0.08)
        axes.grid(color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)
    if title:
        figure.suptitle(title, fontsize=11)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _axis(metric: str, objective: Mapping[str, str]) -> str:
    better = "more" if objective[metric] == "max" else "less"
    return f"{units.heading(metric)} ({better} is better)"


def _points(
    values: Sequence[Mapping[str, float]], pair: tuple[str, str]
) -> tuple[list[float], list[float]]:
    """The points that have both metrics, as x and y."""
    known = [one for one in values if all(key in one for key in pair)]
    x, y = ([units.shown(key, one[key]) for one in known] for key in pair)
    return x, y
