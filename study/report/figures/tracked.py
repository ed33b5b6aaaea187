"""What is attached to tracked trials and cells: accuracy matrix, free space, Pareto front."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Sequence[float]]


def accuracy_csv(rows: Rows) -> str:
    """Returns the accuracy matrix as CSV text, one line per task seen; empty above the diagonal.

    `rows[t]` holds the accuracies on tasks 1 … t + 1 after t + 1 tasks, NaN where unknown.
    """
    tasks = max(map(len, rows), default=0)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["after task", *(f"task {task + 1}" for task in range(tasks))])
    for seen, row in enumerate(rows, start=1):
        known = ["" if math.isnan(value) else value for value in row]
        writer.writerow([seen, *known, *[""] * (tasks - len(row))])
    return text.getvalue()


def accuracy_picture(rows: Rows, title: str) -> "Figure":
    """The accuracy matrix of one task at least, as in the report."""
    # Only here, since matplotlib takes most of a second to import.
    from study.report.figures import plots

    return _drawn(lambda: plots.matrices({title: rows}, "accuracy, %", "task tested"))


def free_dimensions(metrics: Mapping[int, Mapping[str, float]]) -> dict[str, dict[int, float]]:
    """Picks the free dimensions out of {task: metrics}, as {layer: {tasks seen: dimensions}}."""
    layers: dict[str, dict[int, float]] = {}
    prefix = "subspace/dim_free/"
    for task, values in sorted(metrics.items()):
        for key, value in values.items():
            if key.startswith(prefix):
                layers.setdefault(key.removeprefix(prefix), {})[task] = value
    return layers


def free_dimensions_picture(
    layers: Mapping[str, Mapping[int, float]], rank: int | None, title: str
) -> "Figure":
    """The free dimensions of every layer over the tasks seen, as in the report.

    `rank` is that of a branch, below which a layer is exhausted (None: no line).
    """
    from study.report.figures import plots

    return _drawn(lambda: plots.free_dimensions([plots.Panel(title, layers, rank or 0)]))


def front_picture(
    objective: Mapping[str, str],
    tried: Sequence[Mapping[str, float]],
    front: Mapping[int, Mapping[str, float]],
    title: str,
) -> "Figure":
    """The Pareto front of a cell, as in the report: see `fronts.front_picture`."""
    from study.report.figures import fronts

    return _drawn(lambda: fronts.front_picture(objective, tried, front, title))


def _drawn(draw: Callable[[], "Figure"]) -> "Figure":
    """A figure that somebody else saves: names are no formulas, and their letters can be drawn."""
    from study.report.figures import style

    with style.style():
        figure = draw()
        style.spell_out(figure)
    return figure
