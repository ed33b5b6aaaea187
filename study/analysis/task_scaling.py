"""Accuracy, forgetting and free dimensions against the number of tasks: records → trends."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.analysis.curves import final_by_seed
from study.analysis.summary import CellSummary
from study.analysis.trends import Trend, fit_trend
from study.evidence import Comparison, NotEnough, intervals
from study.ledger import TASKS, CellRecord, StudyRecords, cell_label, varying_keys

METRICS: Mapping[str, tuple[float, float]] = {
    "test/accuracy": (0.0, 1.0),
    "test/average_anytime_accuracy": (0.0, 1.0),
    "test/forgetting": (-1.0, 1.0),
    "subspace/dim_free": (0.0, math.inf),
}
"""What is followed over tasks, with what it cannot leave: shares, and dimensions (layers' mean)."""


@dataclass(frozen=True)
class TaskCountTrend:
    """The metric after the last task against the number of tasks, over `cells`.

    Each cell has the setting that its own search chose, so that what changes with the number of
    tasks includes the setting. `label` names what the cells have in common.
    """

    label: str
    metric: str
    cells: tuple[str, ...]
    trend: Trend | NotEnough


@dataclass(frozen=True)
class CurveTrend:
    """The metric against tasks seen, over the confirmations of one cell."""

    cell: str
    metric: str
    trend: Trend | NotEnough


@dataclass(frozen=True)
class TaskChange:
    """Final accuracy with `most` tasks minus that with `least`, for each contender.

    Paired over seeds; the contenders are the comparisons' groups.
    """

    least: int
    most: int
    changes: tuple[Comparison, ...]


def task_count_trends(study: StudyRecords, at: Sequence[float] = ()) -> list[TaskCountTrend]:
    """One trend for each metric and each group of cells that differ in their tasks alone.

    Groups with one number of tasks and metrics that a group never measured are left out; `at` are
    numbers of tasks to predict for, beside those of the cells.
    """
    varying = varying_keys([cell.key for cell in study.cells])
    groups: dict[str, list[CellRecord]] = {}
    for cell in study.cells:
        if cell.tasks:
            groups.setdefault(json.dumps(_beside_tasks(cell), sort_keys=True), []).append(cell)
    trends = []
    for cells in groups.values():
        if len({cell.tasks for cell in cells}) < 2:
            continue
        label, names = cell_label(_beside_tasks(cells[0]), varying), tuple(c.cell for c in cells)
        for metric, bounds in METRICS.items():
            curves: dict[int, dict[float, float]] = {}
            for cell in cells:
                finals = final_by_seed(study.confirmations(cell.cell), metric)
                for seed, value in finals.items():
                    curves.setdefault(seed, {})[float(cell.tasks or 0)] = value
            if curves:
                trends.append(TaskCountTrend(label, metric, names, fit_trend(curves, bounds, at)))
    return trends


def _beside_tasks(cell: CellRecord) -> dict[str, Any]:
    return {key: value for key, value in cell.key.items() if key != TASKS}


def curve_trends(study: StudyRecords, cell: str, at: Sequence[float] = ()) -> list[CurveTrend]:
    """One trend for each metric that the cell's completed confirmations measured over tasks."""
    trials = [trial for trial in study.confirmations(cell) if trial.status == "completed"]
    trends = []
    for metric, bounds in METRICS.items():
        curves = {
            trial.seed: {float(task): value for task, value in trial.series(metric).items()}
            for trial in trials
        }
        if any(curves.values()):
            trends.append(CurveTrend(cell, metric, fit_trend(curves, bounds, at)))
    return trends


def task_change(cells: Sequence[CellSummary]) -> TaskChange | None:
    """What the most tasks do against the fewest, where cells differ in tasks and contender only.

    None where another key varies, where contenders do not have the same two numbers of tasks, or
    where no seed is common to both.
    """
    if any(cell.beside_tasks != cells[0].beside_tasks for cell in cells):
        return None
    ends = set()
    groups: dict[str, Mapping[str, Mapping[int, float]]] = {}
    for name in dict.fromkeys(cell.contender for cell in cells):
        own = [cell for cell in cells if cell.contender == name]
        by_tasks = {cell.tasks: cell for cell in own if cell.tasks and cell.finals}
        if len(by_tasks) < 2 or len(by_tasks) != len(own):
            continue
        least, most = min(by_tasks), max(by_tasks)
        few, many = by_tasks[least].finals, by_tasks[most].finals
        if set(few) & set(many):
            ends.add((least, most))
            groups[name] = {str(most): many, str(least): few}
    if len(ends) != 1:
        return None
    return TaskChange(*ends.pop(), tuple(intervals.compare(groups)))
