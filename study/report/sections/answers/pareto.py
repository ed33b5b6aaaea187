"""Settings on the Pareto front of each cell, with what they came to on test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from study.analysis import curves
from study.analysis.summary import CellSummary
from study.evidence import Interval, intervals
from study.ledger import PointRecord, StudyRecords
from study.report import wording
from study.report.figures.fronts import front_picture
from study.report.section import Block, Findings, Heading, Paragraph, Picture, Section, Table
from study.report.wording import DASH, percent, setting_text, with_interval

TITLE = "Settings on the Pareto front"
HELD = ("memory/subspace_bytes", "memory/branch_bytes")
PEAKS = ("memory/peak_device_bytes", "memory/host_rss_bytes")
ABOUT = (
    "The settings of each cell that no other setting outdoes in all objectives, best in the "
    "first one first. The objectives were measured on validation images in the search; what "
    "stands behind them is the mean over the seeds each setting was confirmed on (± the 95 % "
    "t-interval). Held: subspace memory and branches after the last task; peak: of the "
    "device, or of the process where there is none; compute: of one confirmation."
)
DRAWN = (
    "Objectives on validation images after the last task of the search, one mark a setting; "
    "settings that were pruned or failed have no place here. Numbers are those of the table of "
    "settings on the Pareto front; with two objectives, the line is the border that no setting "
    "crossed."
)


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


def section(findings: Findings) -> Section:
    """A table of every cell's front; nothing on the page for a single objective."""
    fronts = pareto_fronts(findings.study, findings.cells)
    blocks: list[Block] = [Paragraph(ABOUT)] if fronts else []
    for front in fronts:
        rows = [_row(point, findings.study.study.objectives) for point in front.points]
        source = f" (settings found in {front.tuned_in})" if front.tuned_in else ""
        blocks += [Heading(front.label + source), Table(rows, set(rows[0]) - {"setting"})]
    return Section(TITLE, tuple(blocks), {"pareto_fronts": fronts})


def pareto_fronts(study: StudyRecords, cells: Sequence[CellSummary]) -> list[ParetoFront]:
    """The fronts of all cells that have one; none for a single objective."""
    fronts = []
    for cell in cells:
        if points := tuple(_point(point) for point in study.points(cell.cell)):
            tried = tuple(
                _known({metric: trial.final(metric) for metric in study.study.objectives})
                for trial in study.searches(cell.cell)
                if trial.status == "completed"
            )
            fronts.append(ParetoFront(cell.cell, cell.label, cell.tuned_in, points, tried))
    return fronts


def front_pictures(findings: Findings) -> list[Picture]:
    """A figure for each search that had several objectives."""
    objective = findings.study.study.spec.get("objective") or {}
    pictures = []
    for front in pareto_fronts(findings.study, findings.cells):
        # The figure of the cell that was searched shows those that were tuned there.
        if front.tuned_in is None and front.tried:
            values = {point.number: _known(point.values) for point in front.points}
            title = f"Pareto front of the search: {front.label}"
            draw = partial(front_picture, objective, front.tried, values, "")
            pictures.append(Picture(title, DRAWN, draw))
    return pictures


def _point(point: PointRecord) -> ParetoPoint:
    trials = [trial for trial in point.confirmations if trial.status == "completed"]
    finals = curves.final_by_seed(trials, "test/accuracy")
    forgetting = curves.final_by_seed(trials, "test/forgetting")
    kept = [_known({key: trial.final(key) for key in HELD}) for trial in trials]
    # Of the process only where no device was measured: the two do not compare.
    peaks: list[float] = []
    for metric in PEAKS:
        peaks = peaks or [max(own.values()) for trial in trials if (own := trial.series(metric))]
    return ParetoPoint(
        number=point.number,
        setting=point.searched,
        values=point.values,
        final=intervals.interval(list(finals.values())),
        forgetting=intervals.interval(list(forgetting.values())),
        held_bytes=_mean([sum(sizes.values()) for sizes in kept if sizes]),
        peak_bytes=_mean(peaks),
        seconds=_mean([trial.compute_seconds for trial in trials]),
    )


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in values.items() if value is not None}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _row(point: ParetoPoint, objectives: Sequence[str]) -> dict[str, str]:
    return {
        "point": str(point.number),
        "setting": setting_text(point.setting, "\n"),
        **{
            # Broken after the slash: a table has to fit into the column.
            wording.heading(metric).replace("/", "/\n"): wording.text(
                metric, point.values.get(metric)
            )
            for metric in objectives
        },
        "test accuracy, %": with_interval(point.final),
        "sd, points": percent(point.final.std),
        "forgetting, points": percent(point.forgetting.mean),
        "held, MB": wording.text(HELD[0], point.held_bytes),
        "peak, MB": wording.text(PEAKS[0], point.peak_bytes),
        "compute, s": DASH if point.seconds is None else f"{point.seconds:.0f}",
    }
