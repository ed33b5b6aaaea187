"""What a study was estimated to cost beside what it did cost."""

from dataclasses import dataclass

from study.analysis.entities import EstimateRecord, StudyRecords

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


def estimated(study: StudyRecords) -> list[Estimated]:
    """Every quantity that was estimated; empty where there was no estimate."""
    estimate = study.estimate
    if estimate is None:
        return []
    ended = [one for one in study.trials if one.status not in ("running", "interrupted")]
    hours = sum(one.seconds for one in study.trials) / 3600
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
    kept = [one.final(CHECKPOINT) for one in study.trials if one.role == "confirm"]
    known = [one for one in kept if one is not None]
    return (sum(known) + study.ledger_bytes) / 1e6 if known else None


def _device(study: StudyRecords) -> float | None:
    peaks = [max(found.values()) for one in study.trials if (found := one.series(DEVICE))]
    return max(peaks) / 1e9 if peaks else None


def _times(value: float | None, factor: float | None) -> float | None:
    return None if value is None or factor is None else value * factor
