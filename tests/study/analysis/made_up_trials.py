"""Trials and studies of a few lines, for tests that make up their numbers themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from study.analysis.entities import CellRecord, StudyRecord, StudyRecords, TaskRecord, TrialRecord

LAYER = "layer_00"


def binomial_band(share: float, draws: int) -> tuple[float, float]:
    """Where a share counted in `draws` lies in 999 of 1000 cases, if it is `share` in truth."""
    half: float = 3.3 * (share * (1 - share) / draws) ** 0.5
    return share - half, share + half


def trial(
    tasks: Sequence[Mapping[str, float]],
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
    rows: Sequence[Sequence[float]] | None = None,
    **changes: Any,
) -> TrialRecord:
    """A completed confirmation with these metrics after each task."""
    known: dict[str, Any] = {
        "trial": f"{changes.get('cell', 'cell')} {changes.get('role', 'confirm')} {seed}",
        "cell": "cell",
        "role": "confirm",
        "params": params or {},
        "searched": {},
        "seed": seed,
        "status": "completed",
        "tasks": tuple(
            TaskRecord(number, one, tuple(rows[number - 1]) if rows else (0.5,) * number)
            for number, one in enumerate(tasks, start=1)
        ),
    }
    return TrialRecord(**{**known, **changes})


def study(
    trials: Sequence[TrialRecord],
    cells: Sequence[CellRecord] = (),
    objective: Mapping[str, str] | None = None,
) -> StudyRecords:
    """A complete study of these trials."""
    spec = {"objective": dict(objective or {"val/accuracy": "max"})}
    return StudyRecords(
        study=StudyRecord("made up", "?", spec, {}, None, "node", None),
        cells=tuple(cells),
        trials=tuple(trials),
        winners={},
        failed_cells={},
        status="complete",
        wall_seconds=None,
    )


def cell(name: str, key: Mapping[str, Any], tasks: int, **search: str) -> CellRecord:
    """A cell of InfLoRA; `search` has underscores for dots."""
    ranges = {where.replace("__", "."): text for where, text in search.items()}
    return CellRecord(name, key, {}, ranges, "inflora", tasks, tasks)
