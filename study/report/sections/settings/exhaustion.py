"""When the space runs out: foretold for each layer, beside what was seen."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from study.analysis.exhaustion import LayerForecast, exhaustion_forecasts
from study.evidence import NotEnough, count
from study.report.figures.plots import grid_of
from study.report.figures.style import GREY, MOST_PANELS, OKABE_ITO, ticks
from study.report.section import (
    MOST_CELLS,
    Block,
    Bullets,
    Findings,
    Folded,
    Paragraph,
    Picture,
    Section,
    Table,
)
from study.report.wording import DASH, reasons_of

TITLE = "When the space runs out"
ABOUT = (
    "Forecast from the first half of the tasks, of which the later ones give the rate, then "
    "compared with what was seen in the second half. It takes for granted that later tasks "
    "go on filling the space as those did."
)
LAYERS = (
    "Grey: the tasks that the forecast was fitted to. Blue: the predicted task after which a layer "
    "has fewer free dimensions than the rank, with the 95 % interval for one trial; an arrow at "
    "the border: not before the last task. Red crosses: when a trial's layer did run out. Dotted: "
    "the last task."
)


def section(findings: Findings) -> Section:
    """Predicted against seen exhaustion of each layer; nothing without a subspace memory."""
    space = [
        (cell.label, exhaustion_forecasts(cell.confirmed))
        for cell in findings.looked_at
        if cell.has_subspace
    ]
    data = {"deeper": {"space": space}}
    if not space:
        return Section(TITLE, (), data)
    known = {label: layers for label, layers in space if not isinstance(layers, NotEnough)}
    foretold = {
        label: layers
        for label, layers in known.items()
        if any(layer.reason == "" for layer in layers)
    }
    blocks: list[Block] = [Paragraph(ABOUT)]
    most = max((layers[0].tasks for layers in foretold.values()), default=0)
    longest = {label: layers for label, layers in foretold.items() if layers[0].tasks == most}
    if longest:
        drawn = dict(list(longest.items())[:MOST_PANELS])
        blocks.append(Picture("", LAYERS, partial(predicted_exhaustion, drawn)))
    sentences = [
        f"{label}, {forecast_text(layer)}"
        for label, layers in longest.items()
        for layer in layers
        if any(trial.task is not None for trial in layer.observed)
    ]
    blocks.append(Bullets([*sentences[:MOST_CELLS], *reasons_of(space)]))
    rows = [_row(label, layer) for label, layers in known.items() for layer in layers]
    if rows:
        blocks.append(Folded("Every layer", Table(rows[: 5 * MOST_CELLS])))
    return Section(TITLE, tuple(blocks), data)


def forecast_text(layer: LayerForecast) -> str:
    """A forecast in a sentence."""
    seen = [trial.task for trial in layer.observed]
    known = sorted(task for task in seen if task is not None)
    happened = f"{len(known)} of {count(len(seen), 'trial')} ran out within {layer.tasks} tasks"
    if known:
        first_and_last = dict.fromkeys((known[0], known[-1]))
        happened += f" (after task {' to '.join(map(str, first_and_last))})"
    if layer.reason:
        return f"{layer.layer}: {layer.verdict}, {layer.reason}; {happened}."
    ends = [_task_text(end, layer.horizon) for end in (layer.task, layer.low, layer.high)]
    beyond = ", extrapolated" if layer.extrapolated else ""
    changing = "; the threshold changes with the task, which no forecast knows"
    return (
        f"{layer.layer}: {layer.model}, fewer than {layer.rank} free dimensions {ends[0]} (95 % "
        f"interval for one trial: from {ends[1]} to {ends[2]}{beyond}"
        f"{changing if layer.rising else ''}); {happened}: {layer.verdict}."
    )


def _task_text(task: float | None, horizon: int) -> str:
    return f"not within {horizon} tasks" if task is None else f"after task {task:g}"


def _row(label: str, layer: LayerForecast) -> dict[str, str]:
    seen = [str(trial.task) for trial in layer.observed if trial.task is not None]
    interval = DASH
    if not layer.reason:
        ends = [
            f"> {layer.horizon}" if x is None else f"{x:g}"
            for x in (layer.task, layer.low, layer.high)
        ]
        interval = f"{ends[0]} ({ends[1]} to {ends[2]})"
    return {
        "cell": label,
        "layer": layer.layer,
        "rank": str(layer.rank),
        "fitted to tasks": f"1 to {layer.fitted_to} of {layer.tasks}",
        "forecast": layer.model,
        "predicted task (95 %)": interval,
        "seen": ", ".join(seen) or f"not within {layer.tasks} tasks",
        "trials": str(len(layer.observed)),
        "verdict": f"{layer.verdict}{': ' if layer.reason else ''}{layer.reason}",
    }


def predicted_exhaustion(cells: Mapping[str, Sequence[LayerForecast]]) -> Figure:
    """For each layer the predicted task with its interval, and the tasks at which it ran out."""
    most = max(len(layers) for layers in cells.values())
    figure, grid = grid_of(len(cells), across=2, height=1.5 + 0.28 * most)
    blue, red = OKABE_ITO[0], OKABE_ITO[1]
    for axes, (label, layers) in zip(grid, cells.items(), strict=True):
        tasks = layers[0].tasks
        axes.axvspan(0.5, layers[0].fitted_to + 0.5, color="#e9e9e9", linewidth=0)
        # What lies beyond the tasks that were run is drawn at the border.
        border = 1.12 * tasks
        for row, layer in enumerate(layers):
            if layer.reason == "":
                ends = [
                    border if end is None else min(end, border) for end in (layer.low, layer.high)
                ]
                axes.plot(ends, [row, row], color=blue, linewidth=3, solid_capstyle="butt")
                place = border if layer.task is None else min(layer.task, border)
                look: dict[str, Any] = {"color": blue, "linestyle": "none", "markersize": 7}
                marker = ">" if place == border else "o"
                axes.plot([place], [row], marker=marker, clip_on=False, **look)
            seen = [trial.task for trial in layer.observed if trial.task is not None]
            axes.plot(seen, [row] * len(seen), "x", color=red, markersize=8, markeredgewidth=2)
        axes.axvline(tasks, color=GREY, linewidth=1, linestyle=":")
        axes.set(
            title=label, xlabel="tasks seen", xlim=(0.5, border), ylim=(len(layers) - 0.4, -0.6)
        )
        axes.set_yticks(range(len(layers)), [layer.layer for layer in layers])
        axes.set_xticks(ticks(tasks, 6))
    handles = [
        grid[0].plot([], [], color=blue, marker="o", linewidth=3)[0],
        grid[0].plot([], [], color=blue, marker=">", linestyle="none")[0],
        grid[0].plot([], [], "x", color=red, markersize=8, markeredgewidth=2)[0],
        grid[0].axvspan(math.nan, math.nan, color="#e9e9e9"),
    ]
    columns = 4 if len(cells) > 1 else 2
    words = ["predicted, 95 %", "not before the last task", "seen, one trial", "tasks fitted"]
    figure.legend(handles, words, loc="outside lower center", ncols=columns, frameon=False)
    return figure
