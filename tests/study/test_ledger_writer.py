"""Records reach the store once and in order, whatever the store does in between."""

from pathlib import Path
from typing import Any

import pytest

from study.ledger import Ledger
from study.ledger_writer import LedgerWriter, replay
from study.mlflow_links import default_uri
from study.tracker import Tracker
from study.tracking import MLflowStore
from tests.study.fake_store import UnsteadyStore, write_all
from tests.study.mlflow_server import counted, expected
from tests.study.tracked import study_records
from tests.study.written_ledger import four_at_a_time, ledger_of, writer_of


def test_nothing_is_lost_or_twice_when_the_store_goes_and_comes_back(tmp_path: Path) -> None:
    records, store = study_records(), UnsteadyStore()
    path = ledger_of(records, tmp_path)
    store.away = True
    writer = writer_of(path, store, [])
    assert not writer.catch_up()
    assert writer.away == "ConnectionError: away" and store.metrics == {}
    store.away, store.leaves_at = False, (3, 9)
    assert not writer.catch_up()
    store.away = False
    assert not writer.catch_up()
    store.away = False
    assert writer.catch_up()
    assert (writer.written, writer.away, writer.failure) == (len(records), None, None)
    whole = write_all(records)
    assert store.metrics == whole.metrics
    assert (store.parents, store.params, store.tags) == (whole.parents, whole.params, whole.tags)
    assert store.columns == whole.columns
    assert (store.attached, store.marked) == (whole.attached, whole.marked)


def test_a_ledger_that_grows_is_followed_and_a_torn_line_waited_for(tmp_path: Path) -> None:
    records, store = study_records(), UnsteadyStore()
    writer = writer_of(tmp_path / "ledger.jsonl", store, [])
    assert writer.catch_up() and writer.written == 0
    path = ledger_of(records[:5], tmp_path)
    assert writer.catch_up() and writer.written == 5
    whole = path.read_bytes()
    ledger_of(records[5:], tmp_path)
    rest = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + rest[: rest.index(b"\n") + 20])
    assert writer.catch_up() and writer.written == 6
    path.write_bytes(whole + rest)
    assert writer.catch_up() and writer.written == len(records)
    assert store.metrics == write_all(records).metrics


def test_what_a_store_refuses_is_told_and_does_not_keep_later_records_out(tmp_path: Path) -> None:
    records, store, pauses = study_records(), UnsteadyStore(), list[float]()
    store.refuses = "best trial"
    writer = writer_of(ledger_of(records, tmp_path), store, pauses)
    assert writer.catch_up()
    assert writer.failure == (
        "MLflow could not take a record of kind 'winner': PermissionDeniedError: best trial is not "
        "taken."
    )
    assert (pauses, store.skipped) == ([0.5, 1.0, 2.0], 1)
    assert store.status["inflora · 3 tasks"] == ["FINISHED"]


def test_a_server_whose_answers_are_lost_is_tried_for_longer(tmp_path: Path) -> None:
    store, pauses = UnsteadyStore(), list[float]()
    store.refuses, store.how = "best trial", ConnectionResetError
    writer = writer_of(ledger_of(study_records(), tmp_path), store, pauses)
    assert writer.catch_up() and writer.failure is not None
    assert len(pauses) == 11 and sum(pauses) > 60


def test_a_record_that_the_tree_cannot_take_is_told(tmp_path: Path) -> None:
    records, store = study_records(), UnsteadyStore()
    lost = {"kind": "task", "trial": "unknown", "task": 1, "metrics": {}, "time": 1.0}
    writer = writer_of(ledger_of([*records[:3], lost, *records[3:]], tmp_path), store, [])
    assert writer.catch_up()
    assert writer.failure is not None and "of kind 'task': KeyError: 'unknown'" in writer.failure
    assert store.metrics == write_all(records).metrics


@pytest.mark.slow
def test_four_trials_at_a_time_into_a_database_lose_and_double_nothing(tmp_path: Path) -> None:
    records = list(four_at_a_time(tasks=10, metrics=60))
    uri = default_uri(tmp_path)
    tracker = Tracker(tmp_path, uri)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for one in records:
        ledger.append(one)
    ledger.close()
    assert tracker.close(60), tracker.failure
    runs, points = counted(tmp_path / "mlflow.db")
    assert (runs, points) == expected(records)
    assert len(points) == 8 * 10 * 60
    # Again, and into a store that holds half of it.
    assert replay(tmp_path, uri) == (len(records), None)
    assert counted(tmp_path / "mlflow.db") == (runs, points)
    half = tmp_path / "half"
    half.mkdir()
    path = ledger_of(records[: len(records) // 2], half)
    assert replay(half, default_uri(half)) == (len(records) // 2, None)
    path.unlink()
    ledger_of(records, half)
    assert replay(half, default_uri(half)) == (len(records), None)
    assert counted(half / "mlflow.db") == (runs, points)


@pytest.mark.slow
def test_what_was_written_but_answered_too_late_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a server dies between taking a request and answering it."""
    records = study_records()
    store = MLflowStore(default_uri(tmp_path), tmp_path)
    assert store.answers()
    lost: list[str] = []
    seen: set[str] = set()

    def lose(name: str) -> None:
        """Each request is answered the second time only."""
        do = getattr(store._client, name)

        def call(*arguments: Any, **options: Any) -> None:
            found = do(*arguments, **options)
            request = f"{name} {arguments} {sorted(options)}"
            if request not in seen:
                seen.add(request)
                lost.append(name)
                raise ConnectionError("no answer")
            return found  # type: ignore[no-any-return]

        monkeypatch.setattr(store._client, name, call)

    for name in ("create_experiment", "create_run", "log_batch", "log_inputs", "set_terminated"):
        lose(name)
    writer = LedgerWriter(ledger_of(records, tmp_path), store, lambda seconds: None)
    assert writer.catch_up() and writer.failure is None
    assert len(set(lost)) == 5 and lost.count("create_run") == 6
    assert counted(tmp_path / "mlflow.db") == expected(records)
