"""From a ledger to a folder with one page and its numbers; reads nothing but the ledger."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from study.analysis import extras, gallery, records, scaling
from study.analysis.entities import StudyRecords
from study.analysis.findings import findings
from study.analysis.method import method_lines
from study.analysis.page import page
from study.analysis.scaling import Comparison
from study.analysis.summary import CellSummary

INTERVALS = ("final", "average_anytime", "forgetting", "plasticity")
STATES = ("completed", "pruned", "failed", "interrupted", "running")


def write_report(ledger_path: Path, folder: Path) -> Path:
    """Writes report.html, report.json, the tables as CSV and study.yaml into `folder`.

    A running or interrupted study is reported as far as it went, and marked as incomplete.
    Each file is replaced as a whole, so that a browser never sees half a page.

    Raises:
        FileNotFoundError: if there is no such ledger.
        ValueError: if the ledger is broken or of a newer version.
    """
    study = records.read_ledger(ledger_path)
    found = findings(study)
    objective = study.study.spec.get("objective") or {}
    drawn = [*gallery.front_pictures(found.fronts, objective), *gallery.pictures(found.cells)]
    html = page(found, drawn)
    data = {
        "study": dataclasses.asdict(study.study),
        "status": study.status,
        "wall_seconds": study.wall_seconds,
        "sessions": [dataclasses.asdict(one) for one in study.sessions],
        "method": method_lines(study),
        "answers": [dataclasses.asdict(one) for one in found.answers],
        "warnings": found.warnings,
        "cells": [_cell_data(one) for one in found.cells],
        "comparisons": [_comparison_data(one) for one in found.comparisons],
        **extras.as_data(found),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "report.json", json.dumps(_finite(data), indent=1, ensure_ascii=False) + "\n")
    _write(folder / "summary.csv", _csv(_summary_table(study, found.cells)))
    _write(folder / "trials.csv", _csv(_trial_table(study)))
    _write(folder / "free_dimensions.csv", _csv(_free_table(found.cells)))
    spec = yaml.safe_dump(dict(study.study.spec), sort_keys=False, allow_unicode=True)
    _write(folder / "study.yaml", spec)
    _write(folder / "report.html", html)
    return folder / "report.html"


def _cell_data(one: CellSummary) -> dict[str, Any]:
    return {
        "cell": one.cell,
        "label": one.label,
        "group": one.group,
        "method": one.method,
        "tasks": one.tasks,
        "chance": one.chance,
        "setting": dict(one.setting),
        "finals_by_seed": dict(one.finals),
        **{name: dataclasses.asdict(getattr(one, name)) for name in INTERVALS},
        "objective": one.objective,
        "search_value": one.search_value,
        "search_trials": dict(one.ended),
        "first_exhausted": [dataclasses.asdict(found) for found in one.exhausted],
        "first_without_free_dimensions": [dataclasses.asdict(found) for found in one.empty],
        "compute_seconds": one.compute_seconds,
        "wall_seconds": one.seconds,
        "accuracy_over_tasks": {
            task: dataclasses.asdict(found)
            for task, found in scaling.mean_curve(one.confirmed, "test/accuracy").items()
        },
        "accuracy_matrix": scaling.mean_matrix(one.confirmed),
        "free_dimensions": scaling.by_layer(one.confirmed),
        "free_share": scaling.free_share(one.confirmed),
    }


def _comparison_data(one: Comparison) -> dict[str, Any]:
    return {**dataclasses.asdict(one), "enough_evidence": one.enough_evidence}


def _summary_table(study: StudyRecords, cells: Sequence[CellSummary]) -> list[dict[str, Any]]:
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


def _trial_table(study: StudyRecords) -> list[dict[str, Any]]:
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


def _free_table(cells: Sequence[CellSummary]) -> list[dict[str, Any]]:
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


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A CSV table; NaN and None are empty fields."""
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_finite(list(rows)))
    return buffer.getvalue()


def _finite(value: Any) -> Any:
    """The same with NaN and infinities as None, and mappings and tuples as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    """Replaces a file as a whole."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8", newline="")
    new.replace(path)
