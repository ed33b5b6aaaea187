"""Records in memory and on disk: what all tests give them, and what they add up to."""

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json

from study.ledger import Journal, Ledger, Record, StudyRecords, history_of, records

START = 1_000_000.0


def facts(spec: Mapping[str, Any], **changes: Any) -> records.SessionFacts:
    """What a session of a study file works with."""
    known: dict[str, Any] = {
        "versions": {"torch": "2.13.0"},
        "commit": "abc",
        "host": "node",
        "machine": {},
        "chance": None,
        "data": {},
        "splits": {},
    }
    return records.SessionFacts(spec=spec, **(known | changes))


def ranges(space: Mapping[str, BaseDistribution]) -> dict[str, dict[str, Any]]:
    """What is searched in a cell, as its record has it."""
    return {
        key: {"distribution": json.loads(distribution_to_json(distribution))}
        for key, distribution in space.items()
    }


def timed(entries: Iterable[Record], start: float = START) -> list[Record]:
    """The records a second apart."""
    return [{**record, "time": start + at} for at, record in enumerate(entries)]


def ledger_of(entries: Iterable[Record], folder: Path) -> Path:
    """The ledger of a folder, which these records are appended to."""
    ledger = Ledger(folder / "ledger.jsonl")
    for record in entries:
        ledger.append(record)
    ledger.close()
    return ledger.path


def study_of(entries: Iterable[Record]) -> StudyRecords:
    """What a report needs of these records."""
    return history_of(entries).study_records()


def journal_of(written: list[Record], before: Sequence[Record] = ()) -> Journal:
    """A journal whose records go to a list, a second apart; `before` is what was there already."""
    start = before[-1]["time"] + 1 if before else START

    def write(record: Record) -> Record:
        stamped: Record = {"time": start + len(written), **_through_json(record)}
        written.append(stamped)
        return stamped

    return Journal(write, history_of(before))


def checkpoint_in(folder: Path, number: int = 0) -> Path:
    """A file as torch writes it, in a new folder for checkpoints as Tune names them."""
    path = folder / f"checkpoint_{number:06d}" / "trainer.pt"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", b"weights" * 100)
    return path


def _through_json(record: Record) -> Record:
    """As a ledger has it: lists for tuples, null for NaN."""
    plain: Record = json.loads(json.dumps(record), parse_constant=lambda name: None)
    return plain
