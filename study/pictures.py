"""What is attached to a tracked trial: its accuracy matrix as CSV and picture, its free space."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Sequence[float | None]]


def accuracy_columns(rows: Rows) -> dict[str, list[float | None]]:
    """Returns the matrix by columns: "after task", then "task 1", …; None above the diagonal.

    `rows[t]` holds the accuracies on tasks 1 … t + 1 after t + 1 tasks.
    """
    columns: dict[str, list[float | None]] = {"after task": [*range(1, len(rows) + 1)]}
    for task in range(max(map(len, rows), default=0)):
        columns[f"task {task + 1}"] = [row[task] if task < len(row) else None for row in rows]
    return columns


def accuracy_csv(rows: Rows) -> str:
    """Returns the accuracy matrix as CSV text, one line per task seen."""
    columns = accuracy_columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def accuracy_picture(rows: Rows, title: str) -> "Figure":
    """Draws the accuracy matrix as a heat map over a scale fixed at 0 … 1."""
    tasks = len(rows)
    figure = _figure(6.4, 5.6)
    axes = figure.add_subplot()
    nan = float("nan")
    grid = [[_value(row, task) for task in range(tasks)] for row in rows] or [[nan]]
    far = max(tasks, 1) + 0.5
    image = axes.imshow(
        grid, vmin=0, vmax=1, cmap="viridis", extent=(0.5, far, far, 0.5), aspect="equal"
    )
    if tasks <= 12:
        for seen, row in enumerate(grid, start=1):
            for task, value in enumerate(row[:seen], start=1):
                colour = "black" if value > 0.6 else "white"
                axes.text(
                    task, seen, f"{value:.2f}", ha="center", va="center", color=colour, size=7
                )
    axes.locator_params(integer=True)
    axes.set(xlabel="accuracy on task", ylabel="after training task", title=title)
    figure.colorbar(image, ax=axes, label="accuracy (share of images)", shrink=0.85)
    return figure


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
    layers: Mapping[str, Mapping[int, float]], rank: float | None, title: str
) -> "Figure":
    """Draws the free dimensions of every layer over the tasks seen.

    Args:
        layers: name of a layer to {tasks seen: free dimensions}.
        rank: rank of a branch; a layer below this line is exhausted (None: no line).
        title: above the picture.
    """
    from matplotlib import colormaps

    figure = _figure(7.2, 4.6)
    axes = figure.add_subplot()
    shades = colormaps["viridis"]
    for index, (layer, points) in enumerate(sorted(layers.items())):
        tasks = sorted(points)
        shade = shades(0.9 * index / max(len(layers) - 1, 1))
        values = [points[task] for task in tasks]
        axes.plot(tasks, values, color=shade, label=layer.replace("_", " "), marker=".", lw=1.3)
    if rank is not None:
        label = f"rank {rank:g}: below it, exhausted"
        axes.axhline(rank, color="black", linestyle="--", linewidth=1, label=label)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.set(xlabel="tasks seen", ylabel="free dimensions of the layer's input", title=title)
    columns = 1 + len(layers) // 16
    axes.legend(
        loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, ncols=columns, frameon=False
    )
    return figure


def _figure(width: float, height: float) -> "Figure":
    """Returns an empty figure of its own: no pyplot, whose global state threads would share."""
    # Only here, since matplotlib takes most of a second to import.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _value(row: Sequence[float | None], task: int) -> float:
    value = row[task] if task < len(row) else None
    return float("nan") if value is None else float(value)
