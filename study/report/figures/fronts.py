"""Pictures of Pareto fronts: every setting that was tried, and those that none outdoes."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from study.report import wording
from study.report.figures.plots import legend_below
from study.report.figures.style import GRID, OKABE_ITO

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
        best = _points(list(front.values()), pair)
        if len(objective) == 2:
            # Up to the next setting the one before is the best there is.
            steps = sorted(zip(*best, strict=True), reverse=objective[other] == "max")
            axes.plot(*zip(*steps, strict=True), drawstyle="steps-post", color=FRONT, zorder=1)
        axes.plot(*best, marker="D", color=FRONT, label="on the Pareto front", **look)
        for number, point in front.items():
            if all(key in point for key in pair):
                place = tuple(wording.shown(key, point[key]) for key in pair)
                offset = {"xytext": (6, 5), "textcoords": "offset points", "fontsize": 9}
                axes.annotate(str(number), place, color=FRONT, **offset)
        axes.set(xlabel=_axis(other, objective), ylabel=_axis(first, objective))
        axes.margins(0.08)
        axes.grid(**GRID)
    if title:
        figure.suptitle(title, fontsize=11)
    legend_below(figure, columns=2)
    return figure


def _axis(metric: str, objective: Mapping[str, str]) -> str:
    better = "more" if objective[metric] == "max" else "less"
    return f"{wording.heading(metric)} ({better} is better)"


def _points(
    values: Sequence[Mapping[str, float]], pair: tuple[str, str]
) -> tuple[list[float], list[float]]:
    """The points that have both metrics, as x and y."""
    known = [point for point in values if all(key in point for key in pair)]
    x, y = ([wording.shown(key, point[key]) for point in known] for key in pair)
    return x, y
