"""Estimate and what happened: what a study was to cost beside what it did cost."""

from dataclasses import asdict, dataclass

from study.ledger import EstimateRecord, StudyRecords
from study.report.section import Findings, Paragraph, Section, Table
from study.report.wording import DASH, signed

TITLE = "Estimate and what happened"
NUMBERS = ("estimate", "what happened", "error of the estimate, %")
DEVICE, CHECKPOINT = "memory/peak_device_bytes", "memory/checkpoint_bytes"


@dataclass(frozen=True)
class Estimated:
    """One quantity, `actual` None where the ledger does not hold it."""

    what: str
    estimate: float
    actual: float | None

    @property
    def error(self) -> float | None:
        """How far the estimate was off, as a share of what happened: 0.5 is half too much."""
        return self.estimate / self.actual - 1 if self.actual else None


def section(findings: Findings) -> Section:
    """The estimate and what happened; nothing on the page where there was none."""
    study = findings.study
    quantities = estimated(study)
    data = {"estimate": [{**asdict(own), "error": own.error} for own in quantities]}
    if not quantities or study.estimate is None:
        return Section(TITLE, (), data)
    rows = [
        {
            "what": own.what,
            "estimate": f"{own.estimate:.3g}",
            "what happened": DASH if own.actual is None else f"{own.actual:.3g}",
            "error of the estimate, %": DASH if own.error is None else signed(own.error, 0),
        }
        for own in quantities
    ]
    still = "" if study.status == "complete" else " The study is not complete yet."
    about = f"Estimated before the study ran, from {study.estimate.source}.{still}"
    return Section(TITLE, (Paragraph(about), Table(rows, NUMBERS)), data)


def estimated(study: StudyRecords) -> list[Estimated]:
    """Every quantity that was estimated; empty where there was no estimate."""
    estimate = study.estimate
    if estimate is None:
        return []
    ended = [trial for trial in study.trials if trial.status not in ("running", "interrupted")]
    hours = sum(trial.seconds for trial in study.trials) / 3600
    rows = [
        ("trials", estimate.trials, float(len(ended))),
        ("hours of all trials", estimate.trial_hours, hours),
        ("GPU hours", estimate.gpu_hours, _times(_share(study, estimate), hours)),
        ("wall hours", estimate.wall_hours, _times(study.wall_seconds, 1 / 3600)),
        ("checkpoints and ledger, MB", _times(estimate.storage_bytes, 1e-6), _storage(study)),
        ("device memory of a trial, GB", _times(estimate.device_bytes, 1e-9), _device(study)),
    ]
    return [Estimated(what, value, actual) for what, value, actual in rows if value is not None]


def _share(study: StudyRecords, estimate: EstimateRecord) -> float | None:
    """GPUs a trial took: as asked, or as the estimate took it where the engine was to measure."""
    share = (study.study.spec.get("resources") or {}).get("gpu")
    if isinstance(share, int | float):
        return float(share)
    return _times(estimate.gpu_hours, 1 / estimate.trial_hours if estimate.trial_hours else None)


def _storage(study: StudyRecords) -> float | None:
    """Megabytes: the checkpoints of confirmations, which are kept, and the ledger."""
    kept = [trial.final(CHECKPOINT) for trial in study.trials if trial.role == "confirm"]
    known = [size for size in kept if size is not None]
    return (sum(known) + study.ledger_bytes) / 1e6 if known else None


def _device(study: StudyRecords) -> float | None:
    peaks = [max(own.values()) for trial in study.trials if (own := trial.series(DEVICE))]
    return max(peaks) / 1e9 if peaks else None


def _times(value: float | None, factor: float | None) -> float | None:
    return None if value is None or factor is None else value * factor


def estimate_lines(study: StudyRecords) -> list[str]:
    """The last estimate of a study beside what happened, and the error; none without one."""
    rows = [row for row in estimated(study) if row.actual]
    if study.estimate is None or not rows:
        return []
    return [
        f"What was estimated (from {study.estimate.source}) and what happened:",
        *(f"  {row.what}: {row.estimate:.4g}, {row.actual:.4g} ({row.error:+.0%})" for row in rows),
    ]
