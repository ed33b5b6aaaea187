"""Accuracy, forgetting and free dimensions against the number of tasks: records → trends."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.analysis import scaling
from study.analysis.entities import CellRecord, StudyRecords
from study.analysis.evidence import NotEnough
from study.analysis.trends import Trend, fit_trend
from study.labels import TASKS, cell_label, varying_keys

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


def task_count_trends(study: StudyRecords, at: Sequence[float] = ()) -> list[TaskCountTrend]:
    """One trend for each metric and each group of cells that differ in their tasks alone.

    Groups with one number of tasks and metrics that a group never measured are left out; `at` are
    numbers of tasks to predict for, beside those of the cells.
    """
    varying = varying_keys([one.key for one in study.cells])
    groups: dict[str, list[CellRecord]] = {}
    for cell in (one for one in study.cells if one.tasks):
        rest = {key: value for key, value in cell.key.items() if key != TASKS}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(cell)
    found = []
    for cells in groups.values():
        if len({one.tasks for one in cells}) < 2:
            continue
        rest = {key: value for key, value in cells[0].key.items() if key != TASKS}
        for metric, bounds in METRICS.items():
            curves: dict[int, dict[float, float]] = {}
            for cell in cells:
                finals = scaling.final_by_seed(study.confirmations(cell.cell), metric)
                for seed, value in finals.items():
                    curves.setdefault(seed, {})[float(cell.tasks or 0)] = value
            if curves:
                names = tuple(one.cell for one in cells)
                trend = fit_trend(curves, bounds, at)
                found.append(TaskCountTrend(cell_label(rest, varying), metric, names, trend))
    return found


def curve_trends(study: StudyRecords, cell: str, at: Sequence[float] = ()) -> list[CurveTrend]:
    """One trend for each metric that the cell's completed confirmations measured over tasks."""
    trials = [one for one in study.confirmations(cell) if one.status == "completed"]
    found = []
    for metric, bounds in METRICS.items():
        curves = {
            one.seed: {float(task): value for task, value in one.series(metric).items()}
            for one in trials
        }
        if any(curves.values()):
            found.append(CurveTrend(cell, metric, fit_trend(curves, bounds, at)))
    return found
