"""The report's tables of numbers: rows of a CSV file."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from study.analysis import scaling
from study.analysis.entities import StudyRecords
from study.analysis.scaling import Comparison
from study.analysis.summary import CellSummary

INTERVALS = ("final", "average_anytime", "forgetting", "plasticity")
STATES = ("completed", "pruned", "failed", "interrupted", "running")


def summary_table(study: StudyRecords, cells: Sequence[CellSummary]) -> list[dict[str, Any]]:
    """The summary of each cell, a row a cell."""
    keys = list(dict.fromkeys(key for cell in study.cells for key in cell.key))
    by_name = {cell.cell: cell.key for cell in study.cells}
    return [
        {
            "cell": one.cell,
            **{key: by_name[one.cell].get(key, "") for key in keys},
            "setting": json.dumps(dict(one.setting)),
            **{
                f"{name}_{part}": value
                for name in INTERVALS
                for part, value in dataclasses.asdict(getattr(one, name)).items()
            },
            "objective": one.objective,
            "search_value": one.search_value,
            **{f"search_{state}": one.ended.get(state, 0) for state in STATES},
            "compute_seconds": one.compute_seconds,
            "wall_seconds": one.seconds,
        }
        for one in cells
    ]


def trial_table(study: StudyRecords) -> list[dict[str, Any]]:
    """What each trial came to, a row a trial."""
    searched = list(dict.fromkeys(key for trial in study.trials for key in trial.searched))
    metrics = dict.fromkeys((*study.study.objectives, "val/accuracy", "test/accuracy"))
    return [
        {
            "trial": one.trial,
            "cell": one.cell,
            "role": one.role,
            "seed": one.seed,
            **{key: one.searched.get(key, "") for key in searched},
            "status": one.status,
            "tasks_seen": one.tasks[-1].task if one.tasks else 0,
            "tasks_planned": one.planned,
            **{metric: one.final(metric) for metric in metrics},
            "compute_seconds": one.compute_seconds,
            "wall_seconds": one.seconds,
            "retries": one.retries,
            "reason": one.reason or "",
            "error": one.error or "",
        }
        for one in study.trials
    ]


def comparison_table(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """All pairs of cells that were compared."""
    return [
        {
            "cells": one.group,
            "first": one.first,
            "second": one.second,
            **{f"difference_{key}": x for key, x in dataclasses.asdict(one.difference).items()},
            "p": one.p,
            "p_holm": one.p_holm,
            "enough_evidence": one.enough_evidence,
        }
        for one in comparisons
    ]


def task_table(cells: Sequence[CellSummary]) -> list[dict[str, Any]]:
    """Every metric of every confirmation after every task, but for those of single layers."""
    trials = [(one.cell, trial) for one in cells for trial in one.confirmed]
    names = dict.fromkeys(
        name for _, trial in trials for task in trial.tasks for name in task.metrics
    )
    whole = [name for name in names if name.count("/") == 1]
    return [
        {
            "cell": cell,
            "seed": trial.seed,
            "task": task.task,
            **{name: task.metrics.get(name) for name in whole},
        }
        for cell, trial in trials
        for task in trial.tasks
    ]


def free_table(cells: Sequence[CellSummary]) -> list[dict[str, Any]]:
    """Free and used dimensions of every layer, by confirmation and task."""
    return [
        {
            "cell": one.cell,
            "seed": trial.seed,
            "rank": trial.params.get("method.rank"),
            "layer": layer,
            "task": task.task,
            "dim_free": task.metrics.get(f"subspace/dim_free/{layer}"),
            "dim_used": task.metrics.get(f"subspace/dim_used/{layer}"),
        }
        for one in cells
        for trial in one.confirmed
        for layer in scaling.layers([trial])
        for task in trial.tasks
    ]
