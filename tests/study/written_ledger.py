"""Ledgers of given records, and the writer that follows one."""

from collections.abc import Iterator
from pathlib import Path

from study.ledger import Ledger, Record
from study.ledger_writer import LedgerWriter
from tests.study.fake_store import UnsteadyStore
from tests.study.tracked import study_records


def ledger_of(records: list[Record], folder: Path) -> Path:
    ledger = Ledger(folder / "ledger.jsonl")
    for one in records:
        ledger.append(one)
    ledger.close()
    return ledger.path


def writer_of(ledger: Path, store: UnsteadyStore, pauses: list[float]) -> LedgerWriter:
    return LedgerWriter(ledger, store, pauses.append)


def four_at_a_time(tasks: int, metrics: int) -> Iterator[Record]:
    """A study of eight search trials, four of them at any time, task by task in turn."""
    opening = study_records()[:2]
    yield from opening
    cell = opening[1]["cell"]
    now = opening[1]["time"]
    for wave in range(2):
        trials = [f"{4 * wave + number:016x}" for number in range(4)]
        for trial in trials:
            params = {"method.name": "inflora", "method.rank": 4, "seed": 0}
            about = {"role": "search", "params": params, "searched": {"method.rank": 4}, "seed": 0}
            yield {"kind": "trial", "trial": trial, "cell": cell, "time": now, **about}
        for task in range(1, tasks + 1):
            for trial in trials:
                now += 0.5
                values = {f"layer_{one:02d}": task + one for one in range(metrics)}
                row = {"metrics": values, "accuracy_row": [0.5] * task}
                yield {"kind": "task", "trial": trial, "task": task, "time": now, **row}
        for trial in trials:
            yield {"kind": "end", "trial": trial, "status": "completed", "error": None, "time": now}
    yield {"kind": "finished", "status": "completed", "wall_seconds": 9.0, "time": now}
