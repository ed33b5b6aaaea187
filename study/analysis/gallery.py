"""Which figures a study's report shows, with the words under them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from study.analysis import balance, figures, looks, scaling
from study.analysis.exhausted_text import exhaustion
from study.analysis.figures import Panel
from study.analysis.fronts import front_picture
from study.analysis.pareto import ParetoFront
from study.analysis.picture import Picture, picture
from study.analysis.scaling import Interval
from study.analysis.summary import CellSummary

MOST_LINES = 8
"""More lines than this in one pair of axes cannot be told apart: they are split by group."""
MOST_FIGURES, MOST_PANELS = 6, 12
"""Of one kind, and in one figure; what is more is left to the tables."""
STUDIED, REFERENCES = "under study", "reference points"

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
FRONT = (
    "Objectives on validation images after the last task of the search, one mark a setting; "
    "settings that were pruned or failed have no place here. Numbers are those of the table of "
    "settings on the Pareto front; with two objectives, the line is the border that no setting "
    "crossed."
)
MAGNITUDES = (
    "Row t, column k: magnitude (alpha) of direction k after t tasks, mean over the adapted "
    "layers and over seeds."
)


def pictures(cells: Sequence[CellSummary]) -> list[Picture]:
    """All figures for which the study has numbers; none that would be empty."""
    measured = [one for one in cells if one.confirmed]
    with looks.style():
        return [
            *_curves(measured),
            *_lengths(measured),
            *_balances(measured),
            *_free(measured),
            *_matrices(measured),
            *_magnitudes(measured),
        ]


def front_pictures(fronts: Sequence[ParetoFront], objective: Mapping[str, str]) -> list[Picture]:
    """One figure for each search that had several objectives."""
    found = []
    with looks.style():
        for one in fronts:
            if one.tuned_in is not None or not one.tried:
                continue  # The figure of the cell that was searched shows it.
            values = {
                point.number: {key: x for key, x in point.values.items() if x is not None}
                for point in one.points
            }
            figure = front_picture(objective, one.tried, values, "")
            found.append(picture(f"Pareto front of the search: {one.label}", FRONT, figure))
    return found


def _curves(cells: Sequence[CellSummary]) -> list[Picture]:
    """Accuracy over tasks."""
    parts = _parts(cells)
    found = [_curve_picture(over, part, cells) for over, part in parts[:MOST_FIGURES]]
    return _with_rest(found, len(parts), "tasks.csv")


def _balances(cells: Sequence[CellSummary]) -> list[Picture]:
    """Stability against plasticity, where there are two cells to compare."""
    found, parts = [], _parts(cells)
    for over, everyone in parts[:MOST_FIGURES]:
        part, note = _most(everyone, MOST_PANELS, "summary.csv")
        names, styles = _names_and_styles(part, cells)
        points = balance.known(
            [(name, one.forgetting, one.plasticity) for name, one in zip(names, part, strict=True)]
        )
        if len(points) > 1:
            figure = balance.plasticity_against_forgetting(points, styles)
            title = f"Stability against plasticity: {over}"
            found.append(picture(title, balance.CAPTION, figure, note))
    return found


def _parts(cells: Sequence[CellSummary]) -> list[tuple[str, list[CellSummary]]]:
    """What goes in one pair of axes: a number of tasks, or a group where that is too much."""
    parts: list[tuple[str, list[CellSummary]]] = []
    for tasks in sorted({one.tasks or 0 for one in cells}):
        bucket = [one for one in cells if (one.tasks or 0) == tasks]
        groups = list(dict.fromkeys(one.group for one in bucket))
        if len(groups) == 1 or len(bucket) > MOST_LINES:
            parts += [(group, [one for one in bucket if one.group == group]) for group in groups]
        else:
            parts.append((f"{tasks} tasks", bucket))
    return parts


def _curve_picture(over: str, part: Sequence[CellSummary], cells: Sequence[CellSummary]) -> Picture:
    """One figure; methods and reference points apart where there are many lines."""
    part, note = _most(part, 2 * MOST_PANELS, "tasks.csv")
    names, styles = _names_and_styles(part, cells)
    halves: dict[str, dict[str, Mapping[int, Interval]]] = {STUDIED: {}, REFERENCES: {}}
    for name, one in zip(names, part, strict=True):
        half = halves[REFERENCES if one.reference else STUDIED]
        half[name] = scaling.mean_curve(one.confirmed, "test/accuracy")
    if len(part) <= MOST_LINES or not all(halves.values()):
        halves = {"": halves[STUDIED] | halves[REFERENCES]}
    # Cells of different data have different ones.
    chances = {one.chance for one in part}
    chance = chances.pop() if len(chances) == 1 else None
    figure = figures.accuracy_over_tasks(halves, styles, chance, part[0].tasks)
    caption = (
        "Accuracy on the test images of all classes seen so far: mean over seeds, band = 95 % "
        "t-interval of the mean. Chance falls as classes come in."
    )
    return picture(f"Accuracy over tasks: {over}", caption, figure, note)


def _most(
    cells: Sequence[CellSummary], most: int, file: str
) -> tuple[list[CellSummary], list[str]]:
    """The cells of highest final accuracy, in their order, and a note where others are left out."""
    if len(cells) <= most:
        return list(cells), []
    best = sorted(cells, key=lambda one: one.final.mean, reverse=True)[:most]
    note = f"The {most} cells of highest final accuracy of {len(cells)}; all are in {file}."
    return [one for one in cells if one in best], [note]


def _with_rest(found: list[Picture], wanted: int, file: str) -> list[Picture]:
    """The figures; the last one says how many of its kind were left out."""
    if wanted <= len(found) or not found:
        return found
    note = f"Figures of this kind left out: {wanted - len(found)}; their numbers are in {file}."
    return [*found[:-1], replace(found[-1], notes=(*found[-1].notes, note))]


def _lengths(cells: Sequence[CellSummary]) -> list[Picture]:
    """Final accuracy against the number of tasks, where a study has several."""
    if len({one.tasks for one in cells if one.tasks}) < 2:
        return []
    methods = list(dict.fromkeys(one.contender for one in cells))
    lines = {
        method: {one.tasks: one.final for one in cells if one.contender == method and one.tasks}
        for method in methods
    }
    alike = all(one.beside_tasks == cells[0].beside_tasks for one in cells)
    if not alike or sum(map(len, lines.values())) != len([one for one in cells if one.tasks]):
        return []  # Other keys vary as well: one line a method would mix them.
    styles = {method: place for place, method in enumerate(methods)}
    caption = "Final accuracy on all classes, mean over seeds with the 95 % t-interval."
    figure = figures.final_over_tasks(lines, styles)
    return [picture("Final accuracy against the number of tasks", caption, figure)]


def _free(cells: Sequence[CellSummary]) -> list[Picture]:
    """Free dimensions per layer, for the largest number of tasks, methods beside each other."""
    tracked = [one for one in cells if one.has_subspace]
    found: list[Picture] = []
    groups = _longest(tracked)
    for group, everyone in list(groups.items())[:MOST_FIGURES]:
        members, note = _most(everyone, MOST_PANELS, "free_dimensions.csv")
        dims, shares = [], []
        for one in members:
            rank = max(int(trial.params.get("method.rank") or 0) for trial in one.confirmed)
            dims.append(Panel(one.label, scaling.by_layer(one.confirmed), rank))
            shares.append(Panel(one.label, scaling.free_share(one.confirmed)))
        # Shorter sequences have no figure of their own, but their answer belongs here.
        shorter = [
            one for one in tracked if not found and (one.tasks or 0) < (members[0].tasks or 0)
        ]
        notes = [*note, *(exhaustion(one) for one in [*members, *shorter][:MOST_PANELS])]
        title = f"Free dimensions over tasks: {group}"
        found.append(picture(title, FREE, figures.free_dimensions(dims), notes))
        title = f"Share of the space that is free: {group}"
        found.append(picture(title, SHARE, figures.free_heat_map(shares)))
    return _with_rest(found, 2 * len(groups), "free_dimensions.csv")


def _matrices(cells: Sequence[CellSummary]) -> list[Picture]:
    """acc[t][i], one triangle a cell, the cells of one group in one figure."""
    found = []
    groups = list(dict.fromkeys(one.group for one in cells))
    for group in groups[:MOST_FIGURES]:
        everyone = [one for one in cells if one.group == group]
        members, note = _most(everyone, MOST_PANELS, "report.json (accuracy_matrix)")
        tables = {one.label: scaling.mean_matrix(one.confirmed) for one in members}
        tables = {label: table for label, table in tables.items() if table}
        if tables:
            caption = (
                "Row t, column i: accuracy on the test images of task i after t tasks, over all "
                "classes seen, mean over seeds. Columns that fade downwards are forgotten."
            )
            figure = figures.matrices(tables, "accuracy, %", "task tested")
            found.append(picture(f"Accuracy on each task: {group}", caption, figure, note))
    return _with_rest(found, len(groups), "report.json (accuracy_matrix)")


def _magnitudes(cells: Sequence[CellSummary]) -> list[Picture]:
    """The magnitudes of methods that learn them, for the largest number of tasks."""
    learning = [one for one in cells if scaling.parts(one.confirmed, "alpha")]
    found = []
    groups = _longest(learning)
    for group, everyone in list(groups.items())[:MOST_FIGURES]:
        members, note = _most(everyone, MOST_PANELS, "tasks.csv")
        tables = {}
        for one in members:
            # By number: of a task whose direction was dropped there is no magnitude.
            curves = {
                int(name.removeprefix("task_")): scaling.mean_curve(one.confirmed, f"alpha/{name}")
                for name in scaling.parts(one.confirmed, "alpha")
                if name.startswith("task_")
            }
            tables[one.label] = [
                [_mean_at(curves.get(direction, {}), task) for direction in range(1, task + 1)]
                for task in sorted({task for curve in curves.values() for task in curve})
            ]
        figure = figures.matrices(tables, "magnitude (alpha)", "direction (task that learned it)")
        found.append(picture(f"Magnitudes over tasks: {group}", MAGNITUDES, figure, note))
    return _with_rest(found, len(groups), "tasks.csv")


def _mean_at(curve: Mapping[int, Interval], task: int) -> float:
    return curve[task].mean if task in curve else math.nan


def _longest(cells: Sequence[CellSummary]) -> dict[str, list[CellSummary]]:
    """The cells with the most tasks, by group."""
    most = max((one.tasks or 0 for one in cells), default=0)
    groups: dict[str, list[CellSummary]] = {}
    for one in cells:
        if (one.tasks or 0) == most:
            groups.setdefault(one.group, []).append(one)
    return groups


def _names_and_styles(
    part: Sequence[CellSummary], cells: Sequence[CellSummary]
) -> tuple[list[str], dict[str, int]]:
    """Names of the lines: the method alone where that is enough, with the same look everywhere."""
    methods = list(dict.fromkeys(one.contender for one in cells))
    if len({one.contender for one in part}) == len(part):
        names = [one.contender for one in part]
        return names, {name: methods.index(name) for name in names}
    names = [one.label for one in part]
    return names, {name: place for place, name in enumerate(names)}
