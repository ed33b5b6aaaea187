"""The settings on each cell's Pareto front, with what they came to on test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.analysis import scaling
from study.analysis.entities import StudyRecords, TrialRecord
from study.analysis.scaling import Interval
from study.analysis.summary import CellSummary

HELD = ("memory/subspace_bytes", "memory/branch_bytes")
PEAKS = ("memory/peak_device_bytes", "memory/host_rss_bytes")


@dataclass(frozen=True)
class ParetoPoint:
    """A setting that no other outdoes in all objectives.

    `values` are its objectives in the search, on validation images; the intervals are over its
    completed confirmations, as are the means of `held_bytes` (subspace memory and branches after
    the last task), `peak_bytes` (of the device, or else of the process) and `seconds` a run.
    """

    number: int
    setting: Mapping[str, Any]
    values: Mapping[str, float | None]
    final: Interval
    forgetting: Interval
    held_bytes: float | None
    peak_bytes: float | None
    seconds: float | None


@dataclass(frozen=True)
class ParetoFront:
    """A cell's front, best in the first objective first.

    `tried` are the objectives of all search trials that completed, where those ran in this cell.
    """

    cell: str
    label: str
    tuned_in: str | None
    points: tuple[ParetoPoint, ...]
    tried: tuple[Mapping[str, float], ...]


def pareto_fronts(study: StudyRecords, cells: Sequence[CellSummary]) -> list[ParetoFront]:
    """The fronts of all cells that have one; none for a single objective."""
    found = []
    for cell in cells:
        points = tuple(
            _point(
                one.number,
                one.searched,
                one.values,
                [trial for trial in one.confirmations if trial.status == "completed"],
            )
            for one in study.points(cell.cell)
        )
        if points:
            tried = tuple(
                {
                    metric: value
                    for metric in study.study.objectives
                    if (value := trial.final(metric)) is not None
                }
                for trial in study.searches(cell.cell)
                if trial.status == "completed"
            )
            found.append(ParetoFront(cell.cell, cell.label, cell.tuned_in, points, tried))
    return found


def _point(
    number: int,
    setting: Mapping[str, Any],
    values: Mapping[str, float | None],
    trials: Sequence[TrialRecord],
) -> ParetoPoint:
    finals = scaling.final_by_seed(trials, "test/accuracy")
    forgetting = scaling.final_by_seed(trials, "test/forgetting")
    held = [
        sum(known)
        for one in trials
        if (known := [value for key in HELD if (value := one.final(key)) is not None])
    ]
    # Of the process only where no device was measured: the two do not compare.
    peaks: list[float] = []
    for metric in PEAKS:
        peaks = peaks or [max(found.values()) for one in trials if (found := one.series(metric))]
    return ParetoPoint(
        number=number,
        setting=setting,
        values=values,
        final=scaling.interval(list(finals.values())),
        forgetting=scaling.interval(list(forgetting.values())),
        held_bytes=_mean(held),
        peak_bytes=_mean(peaks),
        seconds=_mean([one.compute_seconds for one in trials]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
