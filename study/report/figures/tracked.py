"""What is attached to a tracked trial: its accuracy matrix as CSV and picture, its free space."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
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
    from study.report.figures import plots, style

    with style.style():
        return plots.matrices({title: rows}, "accuracy, %", "task tested")


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
    from study.report.figures import plots, style

    with style.style():
        return plots.free_dimensions([plots.Panel(title, layers, rank or 0)])
