"""Trials and studies of a few lines, for tests that make up their numbers themselves."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution

from study.evidence import NotEnough
from study.ledger import CellRecord, StudyRecords, TaskRecord, TrialRecord
from study.ledger.study_records import StudyRecord
from tests.study.histories import ranges

T = TypeVar("T")
LAYER = "layer_00"


def enough(result: T | NotEnough) -> T:
    """What there was enough evidence for."""
    assert not isinstance(result, NotEnough), result
    return result


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
            TaskRecord(number, metrics, tuple(rows[number - 1]) if rows else (0.5,) * number)
            for number, metrics in enumerate(tasks, start=1)
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


def cell(name: str, key: Mapping[str, Any], tasks: int, **search: BaseDistribution) -> CellRecord:
    """A cell of InfLoRA; `search` has two underscores for a dot."""
    space = {where.replace("__", "."): distribution for where, distribution in search.items()}
    return CellRecord(name, key, {}, ranges(space), "inflora", tasks, tasks)
