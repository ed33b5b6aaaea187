"""Studies of two methods and one contrast, of which a test gives the accuracies seed by seed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from study.analysis.contrasts import ContrastResult, contrasts_of
from study.ledger import ContrastRecord, Record, StudyRecords, records
from tests.study.histories import facts, study_of, timed

FAILED, RUNNING = "failed", "running"
Finals = Mapping[int, float | str]
GOOD: Finals = {0: 0.80, 1: 0.82, 2: 0.81}
ARMS = ("method.name=inflora", "method.name=nearest_mean")
ONE = ContrastRecord("a vs b", *ARMS, "test/accuracy", False)


def ledger(
    *arms: Finals | None,
    seeds: Sequence[int] | Mapping[str, Any] = (0, 1, 2),
    finished: bool = True,
    contrasts: Sequence[ContrastRecord] = (ONE,),
    looks: Sequence[Record] = (),
) -> StudyRecords:
    """A study of two methods and their final accuracies by seed; None: the cell has no winner."""
    spec = {"name": "s", "grid": {"method.name": ["inflora", "nearest_mean"]}, "seeds": seeds}
    entries: list[Record] = [records.study("s", "?", facts(spec, contrasts=contrasts))]
    asked = list(seeds) if not isinstance(seeds, Mapping) else list(range(seeds["first"]))
    for cell, finals in zip(ARMS, arms, strict=True):
        name = cell.partition("=")[2]
        entries.append(records.cell(cell, {"method.name": name}, {}, {}, 1, 1, asked))
        if finals is None:
            entries.append(records.failed_cell(cell, "all trials failed"))
            continue
        entries.append(records.winner(cell, "x", {}, None, "val/accuracy", {}))
        for seed, value in finals.items():
            trial = f"{name} {seed}"
            params = {"method.name": name}
            entries.append(records.trial(trial, cell, "confirm", params, {}, seed, 1))
            if value == FAILED:
                entries.append(records.end(trial, "failed", "loss is NaN", "diverged"))
            elif not isinstance(value, str):
                known = None if math.isnan(value) else value
                entries.append(records.task(trial, 1, {"test/accuracy": known}, [0.5]))
                entries.append(records.end(trial, "completed"))
    entries += looks
    if finished:
        entries.append(records.finished("completed", 9.0))
    return study_of(timed(entries))


def result(*arms: Finals | None, **options: Any) -> ContrastResult:
    (found,) = contrasts_of(ledger(*arms, **options))
    return found


def shifted(by: Sequence[float]) -> dict[int, float]:
    """`GOOD` less as many points on each seed."""
    return {seed: float(value) - by[seed] / 100 for seed, value in GOOD.items()}


def taken(**changes: Any) -> Record:
    """The record of a look that left its contrast open, but for `changes`."""
    blank: dict[str, Any] = {
        "contrast": "a vs b",
        "seeds": (0, 1, 2),
        "mean": 7.0,
        "std": 3.0,
        "low": -9.0,
        "high": 9.0,
        "verdict": "undecided",
        "reason": "wide",
        "by_less_than_margin": False,
        "non_inferior": False,
        "next_seeds": (3,),
        "of": ("x", "x"),
    }
    return records.look(**{**blank, **changes})
