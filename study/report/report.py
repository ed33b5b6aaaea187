"""From a study's records to a folder with one page and its numbers."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.analysis import curves
from study.analysis.contrasts import Later
from study.analysis.summary import CellSummary
from study.evidence import Comparison
from study.ledger import StudyRecords
from study.report.page import answer_picture, page, sections
from study.report.section import Failure, Section, findings
from study.report.wording import yaml_text

INTERVALS = ("final", "average_anytime", "forgetting", "plasticity")
STATES = ("completed", "pruned", "failed", "interrupted", "running")


def write_study(study: StudyRecords, folder: Path, later: Later | None = None) -> Path:
    """Writes report.html, report.json, the tables as CSV and study.yaml into `folder`.

    So it does answer.svg, the picture of the answer, once there is one.

    `later` are contrasts that were declared after the data.

    A running or interrupted study is reported as far as it went, and marked as incomplete.
    Each file is replaced as a whole, so that a browser never sees half a page. Returns the page.

    Raises:
        OSError: if `folder` cannot be written to.
    """
    known = findings(study, later)
    parts = sections(known)
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(_plain(_data(study, parts)), indent=1, ensure_ascii=False)
    _write(folder / "report.json", data + "\n")
    _write(folder / "summary.csv", _csv(summary_table(study, known.cells)))
    _write(folder / "trials.csv", _csv(trial_table(study)))
    _write(folder / "comparisons.csv", _csv(comparison_table(known.comparisons)))
    _write(folder / "tasks.csv", _csv(task_table(known.cells)))
    _write(folder / "free_dimensions.csv", _csv(free_table(known.cells)))
    _write(folder / "study.yaml", yaml_text(study.study.spec))
    picture = answer_picture(known)
    if picture is not None:
        _write(folder / "answer.svg", picture)
    _write(folder / "report.html", page(study, parts))
    return folder / "report.html"


def _data(study: StudyRecords, parts: Sequence[Section]) -> dict[str, Any]:
    """What report.json holds: the study, what each section gives, and what could not be made."""
    data: dict[str, Any] = {
        "study": study.study,
        "status": study.status,
        "wall_seconds": study.wall_seconds,
        "sessions": study.sessions,
    }
    for section in parts:
        for key, value in section.data.items():
            data[key] = {**data[key], **value} if key in data else value
    data["left_out"] = [
        {"section": section.title, "part": block.title, "error": block.reason}
        for section in parts
        for block in section.blocks
        if isinstance(block, Failure)
    ]
    return data


def summary_table(study: StudyRecords, cells: Sequence[CellSummary]) -> list[dict[str, Any]]:
    """The summary of each cell, a row a cell."""
    keys = list(dict.fromkeys(key for record in study.cells for key in record.key))
    by_name = {record.cell: record.key for record in study.cells}
    return [
        {
            "cell": cell.cell,
            **{key: by_name[cell.cell].get(key, "") for key in keys},
            "setting": json.dumps(dict(cell.setting)),
            **{
                f"{name}_{part}": value
                for name in INTERVALS
                for part, value in dataclasses.asdict(getattr(cell, name)).items()
            },
            "objective": cell.objective,
            "search_value": cell.search_value,
            **{f"search_{state}": cell.ended.get(state, 0) for state in STATES},
            "compute_seconds": cell.compute_seconds,
            "wall_seconds": cell.seconds,
        }
        for cell in cells
    ]


def trial_table(study: StudyRecords) -> list[dict[str, Any]]:
    """What each trial came to, a row a trial."""
    searched = list(dict.fromkeys(key for trial in study.trials for key in trial.searched))
    metrics = dict.fromkeys((*study.study.objectives, "val/accuracy", "test/accuracy"))
    return [
        {
            "trial": trial.trial,
            "cell": trial.cell,
            "role": trial.role,
            "seed": trial.seed,
            **{key: trial.searched.get(key, "") for key in searched},
            "status": trial.status,
            "tasks_seen": trial.tasks[-1].task if trial.tasks else 0,
            "tasks_planned": trial.planned,
            **{metric: trial.final(metric) for metric in metrics},
            "compute_seconds": trial.compute_seconds,
            "wall_seconds": trial.seconds,
            "retries": trial.retries,
            "reason": trial.reason or "",
            "error": trial.error or "",
        }
        for trial in study.trials
    ]


def comparison_table(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The differences of all pairs of cells, which are described and not tested."""
    return [
        {
            "cells": pair.group,
            "first": pair.first,
            "second": pair.second,
            **{f"difference_{key}": x for key, x in dataclasses.asdict(pair.difference).items()},
        }
        for pair in comparisons
    ]


def task_table(cells: Sequence[CellSummary]) -> list[dict[str, Any]]:
    """Every metric of every confirmation after every task, but for those of single layers."""
    trials = [(cell.cell, trial) for cell in cells for trial in cell.confirmed]
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
            "cell": cell.cell,
            "seed": trial.seed,
            "rank": trial.params.get("method.rank"),
            "layer": layer,
            "task": task.task,
            "dim_free": task.metrics.get(f"subspace/dim_free/{layer}"),
            "dim_used": task.metrics.get(f"subspace/dim_used/{layer}"),
        }
        for cell in cells
        for trial in cell.confirmed
        for layer in curves.layers([trial])
        for task in trial.tasks
    ]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A CSV table; NaN and None are empty fields."""
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_plain(rows))
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """The same as JSON has it: dataclasses as objects, NaN and infinities as None."""
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8", newline="")
    new.replace(path)
