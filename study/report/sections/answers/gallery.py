"""Figures: what the numbers look like, with the words under them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from study.analysis import curves
from study.analysis.summary import CellSummary
from study.evidence import Interval
from study.report.figures import plots
from study.report.figures.plots import Panel
from study.report.section import Findings, Picture, Section
from study.report.sections.answers import contrasts
from study.report.sections.answers.pareto import front_pictures
from study.report.wording import exhaustion

TITLE = "Figures"
MOST_LINES = 8
"""More lines than this in one pair of axes cannot be told apart: they are split by group."""
MOST_FIGURES, MOST_PANELS = 6, 12
"""Of one kind, and in one figure; what is more is left to the tables."""
STUDIED, REFERENCES = "under study", "reference points"
# How the metric of a magnitude ends.
OF_TASK = re.compile(r"task_\d{1,9}", re.ASCII)

BALANCES = (
    "Plasticity: mean accuracy on each task right after learning it; forgetting: what was lost of "
    "the best of each task at the end. Mean over seeds with 95 % t-intervals; up and to the left "
    "is better."
)
FREE = (
    "Input dimensions of each adapted layer that are still free after each task, mean over seeds. "
    "Free means, for InfLoRA, the width of the space that updates may still use without touching "
    "old tasks; for SD-LoRA, the layer's width minus the span of all directions learned. Dotted "
    "line: the rank; a cross marks the first task after which the mean is below it: from there on "
    "the layer is exhausted."
)
SHARE = (
    "Share of each layer's input dimensions that is free, layer by tasks seen, mean over seeds. "
    "Dark: nothing left."
)
MATRICES = (
    "Row t, column i: accuracy on the test images of task i after t tasks, over all classes seen, "
    "mean over seeds. Columns that fade downwards are forgotten."
)
MAGNITUDES = (
    "Row t, column k: magnitude (alpha) of direction k after t tasks, mean over the adapted "
    "layers and over seeds."
)


def section(findings: Findings) -> Section | None:
    """All figures for which the study has numbers; none that would be empty."""
    figures = pictures(findings)
    if contrasts.first_picture(findings.contrasts) is None:
        # The first curves stand beside the answer.
        beside = {picture.title for picture in curve_pictures(findings.confirmed)[:1]}
        figures = [picture for picture in figures if picture.title not in beside]
    return Section(TITLE, tuple(figures)) if figures else None


def pictures(findings: Findings) -> list[Picture]:
    """The figures, those of one kind beside each other."""
    cells = findings.confirmed
    return [
        *front_pictures(findings),
        *curve_pictures(cells),
        *_lengths(cells),
        *_balances(cells),
        *_free(cells),
        *_matrices(cells),
        *_magnitudes(cells),
    ]


def curve_pictures(cells: Sequence[CellSummary]) -> list[Picture]:
    """Accuracy over the tasks, a figure for each number of tasks."""
    parts = _parts(cells)
    drawn = [_curve_picture(over, part, cells) for over, part in parts[:MOST_FIGURES]]
    return _with_rest(drawn, len(parts), "tasks.csv")


def _balances(cells: Sequence[CellSummary]) -> list[Picture]:
    """Stability against plasticity, where there are two cells to compare."""
    drawn = []
    for over, everyone in _parts(cells)[:MOST_FIGURES]:
        part, notes = _most(everyone, MOST_PANELS, "summary.csv")
        names, styles = _names_and_styles(part, cells)
        # Sequences of one task have neither.
        points = {
            name: (cell.forgetting, cell.plasticity)
            for name, cell in zip(names, part, strict=True)
            if cell.forgetting.n and cell.plasticity.n
        }
        if len(points) > 1:
            draw = partial(plots.plasticity_against_forgetting, points, styles)
            drawn.append(Picture(f"Stability against plasticity: {over}", BALANCES, draw, notes))
    return drawn


def _parts(cells: Sequence[CellSummary]) -> list[tuple[str, list[CellSummary]]]:
    """What goes in one pair of axes: a number of tasks, or a group where that is too much."""
    parts: list[tuple[str, list[CellSummary]]] = []
    for tasks in sorted({cell.tasks or 0 for cell in cells}):
        bucket = [cell for cell in cells if (cell.tasks or 0) == tasks]
        groups = _by_group(bucket)
        if len(groups) == 1 or len(bucket) > MOST_LINES:
            parts += groups.items()
        else:
            parts.append((f"{tasks} tasks", bucket))
    return parts


def _curve_picture(over: str, part: Sequence[CellSummary], cells: Sequence[CellSummary]) -> Picture:
    """A figure; methods and reference points apart where there are many lines."""
    part, notes = _most(part, 2 * MOST_PANELS, "tasks.csv")
    names, styles = _names_and_styles(part, cells)
    halves: dict[str, dict[str, Mapping[int, Interval]]] = {STUDIED: {}, REFERENCES: {}}
    for name, cell in zip(names, part, strict=True):
        half = halves[REFERENCES if cell.reference else STUDIED]
        half[name] = curves.mean_curve(cell.confirmed, "test/accuracy")
    if len(part) <= MOST_LINES or not all(halves.values()):
        halves = {"": halves[STUDIED] | halves[REFERENCES]}
    # Cells of different data have different ones.
    chances = {cell.chance for cell in part}
    chance = chances.pop() if len(chances) == 1 else None
    caption = (
        "Accuracy on the test images of all classes seen so far: mean over seeds, band = 95 % "
        "t-interval of the mean. Chance falls as classes come in."
    )
    draw = partial(plots.accuracy_over_tasks, halves, styles, chance, part[0].tasks)
    return Picture(f"Accuracy over tasks: {over}", caption, draw, notes)


def _most(
    cells: Sequence[CellSummary], most: int, file: str
) -> tuple[list[CellSummary], tuple[str, ...]]:
    """The cells of highest final accuracy, in their order, and a note where others are left out."""
    if len(cells) <= most:
        return list(cells), ()
    ranked = sorted(cells, key=lambda cell: cell.final.mean, reverse=True)
    best = {cell.cell for cell in ranked[:most]}
    note = f"The {most} cells of highest final accuracy of {len(cells)}; all are in {file}."
    return [cell for cell in cells if cell.cell in best], (note,)


def _with_rest(drawn: list[Picture], due: int, file: str) -> list[Picture]:
    """The figures; the last one says how many of its kind were left out."""
    if due <= len(drawn) or not drawn:
        return drawn
    note = f"Figures of this kind left out: {due - len(drawn)}; their numbers are in {file}."
    return [*drawn[:-1], replace(drawn[-1], notes=(*drawn[-1].notes, note))]


def _lengths(cells: Sequence[CellSummary]) -> list[Picture]:
    if len({cell.tasks for cell in cells if cell.tasks}) < 2:
        return []
    lines: dict[str, dict[int, Interval]] = {cell.contender: {} for cell in cells}
    for cell in cells:
        if cell.tasks:
            lines[cell.contender][cell.tasks] = cell.final
    alike = all(cell.beside_tasks == cells[0].beside_tasks for cell in cells)
    if not alike or sum(map(len, lines.values())) != len([cell for cell in cells if cell.tasks]):
        return []  # Other keys vary as well: one line a method would mix them.
    styles = {method: place for place, method in enumerate(lines)}
    caption = "Final accuracy on all classes, mean over seeds with the 95 % t-interval."
    draw = partial(plots.final_over_tasks, lines, styles)
    return [Picture("Final accuracy against the number of tasks", caption, draw)]


def _free(cells: Sequence[CellSummary]) -> list[Picture]:
    """Free dimensions per layer, for the largest number of tasks, methods beside each other."""
    tracked = [cell for cell in cells if cell.has_subspace]
    drawn: list[Picture] = []
    groups = _longest(tracked)
    for group, everyone in list(groups.items())[:MOST_FIGURES]:
        members, note = _most(everyone, MOST_PANELS, "free_dimensions.csv")
        dims, shares = [], []
        for cell in members:
            rank = max(int(trial.params.get("method.rank") or 0) for trial in cell.confirmed)
            dims.append(Panel(cell.label, curves.by_layer(cell.confirmed), rank))
            shares.append(Panel(cell.label, curves.free_share(cell.confirmed)))
        # Shorter sequences have no figure of their own, but their answer belongs here.
        shorter = [
            cell for cell in tracked if not drawn and (cell.tasks or 0) < (members[0].tasks or 0)
        ]
        notes = (*note, *(exhaustion(cell) for cell in [*members, *shorter][:MOST_PANELS]))
        title = f"Free dimensions over tasks: {group}"
        drawn.append(Picture(title, FREE, partial(plots.free_dimensions, dims), notes))
        title = f"Share of the space that is free: {group}"
        drawn.append(Picture(title, SHARE, partial(plots.free_heat_map, shares)))
    return _with_rest(drawn, 2 * len(groups), "free_dimensions.csv")


def _matrices(cells: Sequence[CellSummary]) -> list[Picture]:
    """acc[t][i], a triangle a cell, the cells of one group in one figure."""
    drawn = []
    groups = _by_group(cells)
    for group, everyone in list(groups.items())[:MOST_FIGURES]:
        members, note = _most(everyone, MOST_PANELS, "report.json (accuracy_matrix)")
        tables = {cell.label: curves.mean_matrix(cell.confirmed) for cell in members}
        tables = {label: table for label, table in tables.items() if table}
        if tables:
            draw = partial(plots.matrices, tables, "accuracy, %", "task tested")
            drawn.append(Picture(f"Accuracy on each task: {group}", MATRICES, draw, note))
    return _with_rest(drawn, len(groups), "report.json (accuracy_matrix)")


def _magnitudes(cells: Sequence[CellSummary]) -> list[Picture]:
    """The magnitudes of methods that learn them, for the largest number of tasks."""
    learning = [cell for cell in cells if _alphas(cell)]
    drawn = []
    groups = _longest(learning)
    for group, everyone in list(groups.items())[:MOST_FIGURES]:
        members, note = _most(everyone, MOST_PANELS, "tasks.csv")
        tables = {cell.label: _alphas(cell) for cell in members}
        columns = "direction (task that learned it)"
        draw = partial(plots.matrices, tables, "magnitude (alpha)", columns)
        drawn.append(Picture(f"Magnitudes over tasks: {group}", MAGNITUDES, draw, note))
    return _with_rest(drawn, len(groups), "tasks.csv")


def _alphas(cell: CellSummary) -> list[list[float]]:
    """Mean magnitudes, row t after t tasks; NaN where a direction was dropped."""
    means = {
        (task, int(name.removeprefix("task_"))): mean
        for name, curve in curves.by_layer(cell.confirmed, "alpha").items()
        if OF_TASK.fullmatch(name)
        for task, mean in curve.items()
    }
    return [
        [means.get((task, direction), math.nan) for direction in range(1, task + 1)]
        for task in sorted({task for task, _ in means})
    ]


def _longest(cells: Sequence[CellSummary]) -> dict[str, list[CellSummary]]:
    most = max((cell.tasks or 0 for cell in cells), default=0)
    return _by_group([cell for cell in cells if (cell.tasks or 0) == most])


def _by_group(cells: Sequence[CellSummary]) -> dict[str, list[CellSummary]]:
    groups: dict[str, list[CellSummary]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return groups


def _names_and_styles(
    part: Sequence[CellSummary], cells: Sequence[CellSummary]
) -> tuple[list[str], dict[str, int]]:
    """Names of the lines: the method alone where that is enough, with the same look everywhere."""
    methods = list(dict.fromkeys(cell.contender for cell in cells))
    if len({cell.contender for cell in part}) == len(part):
        names = [cell.contender for cell in part]
        return names, {name: methods.index(name) for name in names}
    names = [cell.label for cell in part]
    return names, {name: place for place, name in enumerate(names)}
