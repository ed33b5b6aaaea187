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

from study.analysis import extras, gallery, records, scaling, tables
from study.analysis.entities import StudyRecords
from study.analysis.findings import findings
from study.analysis.method import method_lines
from study.analysis.missing import missing_cells
from study.analysis.page import page
from study.analysis.published_numbers import published_data
from study.analysis.scaling import Comparison
from study.analysis.summary import CellSummary


def write_report(ledger_path: Path, folder: Path) -> Path:
    """Writes report.html, report.json, the tables as CSV and study.yaml into `folder`.

    A running or interrupted study is reported as far as it went, and marked as incomplete.
    Each file is replaced as a whole, so that a browser never sees half a page.

    Raises:
        FileNotFoundError: if there is no such ledger.
        ValueError: if the ledger is broken or of a newer version.
        OSError: if `folder` cannot be written to.
    """
    return write_study(records.read_ledger(ledger_path), folder)


def write_study(study: StudyRecords, folder: Path) -> Path:
    """As `write_report`, of records that have been read."""
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
        "answer": list(found.answers),
        "standings": [dataclasses.asdict(one) for one in found.standings],
        "missing": [dataclasses.asdict(one) for one in missing_cells(study)],
        "warnings": found.warnings,
        "cells": [_cell_data(one) for one in found.cells],
        "published": published_data(study, found.cells),
        "comparisons": [_comparison_data(one) for one in found.comparisons],
        **extras.as_data(found),
        "deeper": dataclasses.asdict(found.deeper),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "report.json", json.dumps(_finite(data), indent=1, ensure_ascii=False) + "\n")
    _write(folder / "summary.csv", _csv(tables.summary_table(study, found.cells)))
    _write(folder / "trials.csv", _csv(tables.trial_table(study)))
    _write(folder / "comparisons.csv", _csv(tables.comparison_table(found.comparisons)))
    _write(folder / "tasks.csv", _csv(tables.task_table(found.cells)))
    _write(folder / "free_dimensions.csv", _csv(tables.free_table(found.cells)))
    spec = yaml.safe_dump(dict(study.study.spec), sort_keys=False, allow_unicode=True)
    _write(folder / "study.yaml", spec)
    _write(folder / "report.html", html)
    return folder / "report.html"


def _cell_data(one: CellSummary) -> dict[str, Any]:
    return {
        "cell": one.cell,
        "label": one.label,
        "group": one.group,
        "contender": one.contender,
        "method": one.method,
        "tasks": one.tasks,
        "chance": one.chance,
        "setting": dict(one.setting),
        "finals_by_seed": dict(one.finals),
        **{name: dataclasses.asdict(getattr(one, name)) for name in tables.INTERVALS},
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
