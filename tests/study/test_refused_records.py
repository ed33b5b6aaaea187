"""What a store refuses that answers is told, tried again, and repaired by a replay."""

from pathlib import Path
from typing import Any

import pytest

from study.ledger_writer import LedgerWriter, replay
from study.mlflow_links import default_uri
from study.tracking import MLflowStore
from tests.study.fake_store import UnsteadyStore, write_all
from tests.study.mlflow_server import counted, expected
from tests.study.tracked import study_records
from tests.study.written_ledger import four_at_a_time, ledger_of, writer_of


class Locked:
    """Metrics are refused while `on`, or those of runs in `only`, as where a database is locked."""

    def __init__(self, store: MLflowStore, monkeypatch: pytest.MonkeyPatch) -> None:
        assert store.answers()
        self.on = True
        self.only: list[str] = []
        real = store._client.log_batch

        def log_batch(run: str, metrics: Any = (), **rest: Any) -> None:
            if metrics and (run in self.only or (self.on and not self.only)):
                raise store.errors[0]("database is locked")
            real(run, metrics=metrics, **rest)

        monkeypatch.setattr(store._client, "log_batch", log_batch)


@pytest.mark.slow
@pytest.mark.parametrize("place", [5, 7, 24], ids=["task", "end", "all"])
def test_refused_metrics_are_written_with_the_end_or_by_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    records, uri = study_records(), default_uri(tmp_path)
    store = MLflowStore(uri, tmp_path)
    locked = Locked(store, monkeypatch)
    path = ledger_of(records[:place], tmp_path)
    writer = LedgerWriter(path, store, lambda seconds: None)
    assert writer.catch_up()
    assert writer.failure is not None and "database is locked" in writer.failure
    locked.on = False
    ledger_of(records[place:], tmp_path)
    assert writer.catch_up()
    runs, points = counted(tmp_path / "mlflow.db")
    if place == 5:  # its trial had not ended yet: mended without a replay
        assert (runs, points) == expected(records)
    else:
        assert points != expected(records)[1]
    monkeypatch.undo()
    status = {run.data.tags["study_item"]: run.info.status for run in _tracked(store)}
    assert set(status.values()) == {"FINISHED"}
    assert replay(tmp_path, uri) == (len(records), None)
    assert counted(tmp_path / "mlflow.db") == expected(records)


@pytest.mark.slow
def test_metrics_of_one_run_that_are_refused_keep_no_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = list(four_at_a_time(tasks=2, metrics=3))[:14]
    store = MLflowStore(default_uri(tmp_path), tmp_path)
    locked = Locked(store, monkeypatch)
    locked.on = False
    path = ledger_of(records[:4], tmp_path)
    writer = LedgerWriter(path, store, lambda seconds: None)
    assert writer.catch_up() and writer.failure is None
    locked.only = [store._runs[records[2]["trial"]]]
    ledger_of(records[4:], tmp_path)
    assert writer.catch_up() and writer.failure is not None
    _, points = counted(tmp_path / "mlflow.db")
    wanted = expected(records)[1]
    assert points == {point: 1 for point in wanted if point[0] != records[2]["trial"]}


def test_no_trial_is_whole_of_which_a_record_was_refused(tmp_path: Path) -> None:
    records, store = study_records(), UnsteadyStore()
    store.refuses = "host"
    writer = writer_of(ledger_of(records, tmp_path), store, [])
    assert writer.catch_up() and writer.failure is not None
    assert store.marked == {} and write_all(records).marked
    search = "search 01 · inflora · 3 tasks"
    assert (store.status[search], store.tags[search]["status"]) == (["FINISHED"], "completed")


def test_an_end_that_is_refused_is_written_with_the_study_s(tmp_path: Path) -> None:
    records, store = study_records(), UnsteadyStore()
    end = next(number for number, one in enumerate(records) if one["kind"] == "end")
    path = ledger_of(records[:end], tmp_path)
    writer = writer_of(path, store, [])
    assert writer.catch_up()
    store.refuses = "status"
    ledger_of(records[end : end + 1], tmp_path)
    assert writer.catch_up()
    store.refuses = None
    ledger_of(records[end + 1 :], tmp_path)
    assert writer.catch_up()
    assert store.status["search 01 · inflora · 3 tasks"] == ["FINISHED"]
    assert "search 01 · inflora · 3 tasks" not in store.marked


def test_what_failed_while_the_store_was_away_is_not_blamed_on_a_later_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MLflowStore(default_uri(tmp_path), tmp_path)
    locked = Locked(store, monkeypatch)
    store._metrics._points["run"] = ["a point"]
    with pytest.raises(store.errors):
        store.flush()
    store.begin()
    assert not store.skip()
    assert locked.on and store._metrics._points == {"run": ["a point"]} and not store._metrics._held


def _tracked(store: MLflowStore) -> Any:
    return store._client.search_runs([store._experiment])
