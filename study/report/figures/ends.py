"""Names at the ends of lines, in place of a legend in which a reader has to look them up."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from study.report.figures.style import GREY

LINE, LETTER = 13.0, 5.9
"""Points that a name takes from the next one, and that a letter takes."""
FRAME = 65.0
"""Points of a row of axes that title and numbers of the axis take."""
SAME = 2.0
"""Points that two ends are apart at least, but for one pair of them."""
MOST_WIDTH = 0.4
"""Of a pair of axes, what names may take."""

Ends = Mapping[str, tuple[float, float]]


def name_lines(figure: Figure, ends: Ends) -> bool:
    """Writes each line's name to the right of its axes, joined to its end.

    `ends` are the ends of lines whose handle has another one. Returns False, and writes nothing,
    where names find no room, or where ends are too near each other to tell whose name is which.
    """
    found = [(axes, _ended(axes, ends)) for axes in figure.axes]
    if not all(_fits(axes, lines) for axes, lines in found):
        return False
    for axes, lines in found:
        height = _room(axes)[1]
        places = spread([line.height for line in lines], LINE, height)
        for (name, end, color, _), place in zip(lines, places, strict=True):
            axes.annotate(
                name,
                end,
                xytext=(1.03, place / height),
                textcoords="axes fraction",
                va="center",
                fontsize=9.5,
                color=GREY if color == GREY else "#1b1b1b",
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": color,
                    "linewidth": 0.9,
                    "relpos": (0, 0.5),
                    "shrinkA": 1,
                    "shrinkB": 1,
                },
            )
    return True


def spread(wanted: Sequence[float], gap: float, high: float) -> list[float]:
    """Places at least `gap` apart between 0 and `high`, as near as may be to the wanted ones.

    `wanted` rises, and there is room for all.
    """
    # Those that would come too near share what they have to move (pool adjacent violators).
    pools: list[list[float]] = []
    for at, place in enumerate(wanted):
        pools.append([place - at * gap, 1.0])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1] = [pools[-1][0] + total, pools[-1][1] + count]
    moved = [total / count for total, count in pools for _ in range(int(count))]
    most = max(0.0, high - (len(wanted) - 1) * gap)
    return [min(max(place, 0.0), most) + at * gap for at, place in enumerate(moved)]


class _Ended(NamedTuple):
    """A line: where it ends, and how many points above the lower end of its axes."""

    name: str
    end: tuple[float, float]
    color: str
    height: float


def _ended(axes: Any, ends: Ends) -> list[_Ended]:
    """The lines of a pair of axes that have a name, from the bottom up."""
    low, high = axes.get_ylim()
    lines = []
    for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
        line = handle[0] if isinstance(handle, tuple) else handle
        x, y = ends.get(name) or (float(line.get_xdata()[-1]), float(line.get_ydata()[-1]))
        height = _room(axes)[1] * (y - low) / (high - low)
        lines.append(_Ended(name, (x, y), line.get_color(), height))
    return sorted(lines, key=lambda line: line.height)


def _fits(axes: Any, lines: Sequence[_Ended]) -> bool:
    width, height = _room(axes)
    same = sum(b.height - a.height < SAME for a, b in pairwise(lines))
    longest = max((len(line.name) for line in lines), default=0)
    return same < 2 and len(lines) * LINE <= height and longest * LETTER <= width


def _room(axes: Any) -> tuple[float, float]:
    """Points that names may be wide, and that the axes are high, before anything is laid out."""
    grid = axes.get_subplotspec()
    rows, columns = (1, 1) if grid is None else grid.get_gridspec().get_geometry()
    width, height = axes.figure.get_size_inches()
    return MOST_WIDTH * 72 * width / columns, 72 * height / rows - FRAME
