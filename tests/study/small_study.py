"""A small study for tests: four tasks of made-up data, or any change of it; and its trials."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from study.ledger import Record, records
from study.planning.cells import Plan, PlannedTrial
from study.planning.plan import make_plan
from study.planning.spec import StudySpec

FIXED = {
    "data.name": "gaussian",
    "data.classes": 8,
    "data.image_size": 8,
    "data.augmentation": "none",
    "backbone.name": "test_vit",
    "backbone.pretrained": False,
    "optim.epochs": 1,
}


def small_plan(**changes: Any) -> Plan:
    """Plans the small study; a change replaces a whole section, `fixed` is added to."""
    plain: dict[str, Any] = {
        "name": "small",
        "question": "Does it run?",
        "grid": {"method.name": ["inflora", "sd_lora"], "data.tasks": [2, 4]},
        "trials": 3,
        "seeds": [0, 1],
        **changes,
    }
    axes = plain["grid"]
    fixed = {key: value for key, value in FIXED.items() if key not in axes}
    plain["fixed"] = {**fixed, **changes.get("fixed", {})}
    return make_plan(StudySpec.from_plain(plain, source="small.yaml"))


def records_of(
    trial: PlannedTrial,
    tasks: Sequence[records.Metrics] = (),
    status: records.Status | None = "completed",
    error: str | None = None,
) -> list[Record]:
    """A trial that measured this after each task, and its end unless `status` is None."""
    measured = [
        records.task(trial.id, number, metrics, [0.5] * number)
        for number, metrics in enumerate(tasks, start=1)
    ]
    ended = [] if status is None else [records.end(trial.id, status, error)]
    return [trial.record(), *measured, *ended]


def write_npz(folder: Path) -> dict[str, Any]:
    """Writes the data set mine.npz, of three classes; what a study fixes to use it."""
    labels = np.arange(60) % 3
    images = np.full((60, 8, 8), 255, np.uint8) // (1 + labels[:, None, None].astype(np.uint8))
    np.savez(folder / "mine.npz", images=images, labels=labels)
    fixed = {key: value for key, value in FIXED.items() if not key.startswith("data.")}
    return {**fixed, "data.name": "npz:mine", "data.image_size": 8}
