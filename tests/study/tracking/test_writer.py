"""Records reach the store once and in order, whatever the store does in between."""

from pathlib import Path
from typing import Any

import pytest

from study.ledger import StudyFolder, records
from study.tracking.mlflow_store import MLflowStore
from study.tracking.tracker import Tracker, default_uri
from study.tracking.writer import replay
from tests.study.histories import ledger_of, timed
from tests.study.tracking.conftest import copy_database
from tests.study.tracking.fake_store import Driver, FakeStore, write_all, writer_of
from tests.study.tracking.mlflow_server import counted, expected
from tests.study.tracking.tracked import first, four_at_a_time, study_records

SEARCH = "search 01 · inflora · 3 tasks"


def test_nothing_is_lost_or_twice_when_the_store_goes_and_comes_back(tmp_path: Path) -> None:
    ledger, store = study_records(), FakeStore()
    store.away, store.leaves_at = True, (1, 4)
    driver = Driver(store)
    writer = driver.writer(ledger_of(ledger, tmp_path))
    assert writer.catch_up()
    assert driver.heard == [("away", "ConnectionError: away"), ("experiment", "7")]
    assert driver.pauses == [1.0, 1.0, 1.0]
    assert (writer.read, writer.refused, writer.problem) == (len(ledger), 0, None)
    whole = write_all(ledger)
    assert store.calls - 2 < whole.calls
    for name in ("metrics", "parents", "params", "tags", "columns", "status", "attached"):
        assert getattr(store, name) == getattr(whole, name)


def test_page_and_picture_of_a_report_are_attached_to_the_study(tmp_path: Path) -> None:
    ledger, store, report = study_records(), FakeStore(), tmp_path / "report"
    writer = Driver(store).writer(ledger_of(ledger, tmp_path))
    writer.attach_report(report)
    assert writer.catch_up() and not store.away
    writer.attach_report(report)
    run = next(iter(store.parents))
    assert set(store.attached[run]) == {"study.yaml"}
    report.mkdir()
    for name, text in (("report.html", "<p>page</p>"), ("answer.svg", "<svg/>"), ("x.csv", "")):
        (report / name).write_text(text)
    writer.attach_report(report)
    assert store.attached[run]["report.html"] == "<p>page</p>"
    assert set(store.attached[run]) == {"study.yaml", "report.html", "answer.svg"}


def test_a_store_that_stays_away_is_not_waited_for_without_end(tmp_path: Path) -> None:
    ledger, store = study_records(), FakeStore()
    store.leaves_at = (1,)
    writer = Driver(store, patience=False).writer(ledger_of(ledger, tmp_path))
    assert not writer.catch_up()
    # Study, cell, trial and its three tasks, whose metrics are written before its end.
    assert (writer.read, writer.refused, writer.written) == (6, 0, 3)
    assert writer.problem == "MLflow cannot be reached (ConnectionError: away)."


def test_a_ledger_that_grows_is_followed_and_a_torn_line_waited_for(tmp_path: Path) -> None:
    ledger, store = study_records(), FakeStore()
    writer = Driver(store).writer(tmp_path / "ledger.jsonl")
    assert writer.catch_up() and writer.read == 0
    path = ledger_of(ledger[:5], tmp_path)
    assert writer.catch_up() and writer.read == 5
    whole = path.read_bytes()
    ledger_of(ledger[5:], tmp_path)
    rest = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + rest[: rest.index(b"\n") + 20])
    assert writer.catch_up() and writer.read == 6
    path.write_bytes(whole + rest)
    assert writer.catch_up() and writer.read == len(ledger)
    assert store.metrics == write_all(ledger).metrics


def test_what_a_store_refuses_is_told_and_does_not_keep_later_records_out(tmp_path: Path) -> None:
    ledger, store = study_records(), FakeStore()
    store.refuses = "best trial"
    driver = Driver(store)
    writer = driver.writer(ledger_of(ledger, tmp_path))
    assert writer.catch_up()
    assert (writer.read, writer.refused) == (len(ledger), 1)
    assert writer.problem == (
        "MLflow could not take a record of kind 'winner': PermissionError: best trial is not taken."
    )
    assert driver.pauses == [0.5, 1.0, 2.0]
    assert store.status["inflora · 3 tasks"] == ["FINISHED"]


def test_a_record_that_no_history_can_take_is_told(tmp_path: Path) -> None:
    ledger, store = study_records(), FakeStore()
    lost = timed([records.task("unknown", 1, {}, [0.5])])
    writer = Driver(store).writer(ledger_of([*ledger[:3], *lost, *ledger[3:]], tmp_path))
    assert writer.catch_up() and (writer.read, writer.refused) == (len(ledger) + 1, 1)
    assert writer.problem is not None and "of kind 'task': ValueError:" in writer.problem
    assert "has a 'task' of unknown trial 'unknown'" in writer.problem
    assert store.metrics == write_all(ledger).metrics


@pytest.mark.parametrize("tag", ["host", "status"])
def test_a_trial_of_which_a_record_was_refused_is_closed_but_not_whole(
    tmp_path: Path, tag: str
) -> None:
    """Its first task, or its end, which is made up for with the study's."""
    ledger, store = study_records(), FakeStore()
    place = first("end", ledger) + 1
    writer = Driver(store).writer(ledger_of(ledger[:place], tmp_path))
    store.refuses = tag
    assert writer.catch_up() and writer.refused
    store.refuses = None
    ledger_of(ledger[place:], tmp_path)
    assert writer.catch_up()
    assert store.status[SEARCH] == ["FINISHED"]
    assert set(write_all(ledger).whole) - set(store.whole) == {SEARCH}


@pytest.mark.usefixtures("database")
@pytest.mark.slow
def test_metrics_that_a_locked_database_refuses_are_counted_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, folder = timed(four_at_a_time(tasks=2, metrics=3)), StudyFolder(tmp_path)
    uri = default_uri(folder)
    store = MLflowStore(uri, folder)
    assert store.answers()
    writer = writer_of(folder.ledger, store)
    ledger_of(ledger[:4], tmp_path)
    assert writer.catch_up()
    trial = ledger[2]["trial"]
    locked, _ = store._runs[trial]
    log_batch = store._client.log_batch

    def refuse(run: str, metrics: Any = (), **rest: Any) -> None:
        if metrics and run == locked:
            raise store.errors[0]("database is locked")
        log_batch(run, metrics=metrics, **rest)

    monkeypatch.setattr(store._client, "log_batch", refuse)
    ledger_of(ledger[4:], tmp_path)
    assert writer.catch_up() and (writer.read, writer.refused) == (len(ledger), 2)
    assert writer.problem is not None and "database is locked" in writer.problem
    points = expected(ledger)[1]
    others = {point: 1 for point in points if point[0] != trial}
    assert counted(folder.database)[1] == others
    assert replay(folder, uri) == (len(ledger), None)
    assert counted(folder.database) == expected(ledger)


@pytest.mark.nightly
@pytest.mark.process
@pytest.mark.usefixtures("database")
def test_four_trials_at_a_time_into_a_database_lose_and_double_nothing(
    empty_database: Path, tmp_path: Path
) -> None:
    ledger, folder = timed(four_at_a_time(tasks=10, metrics=60)), StudyFolder(tmp_path)
    uri = default_uri(folder)
    tracker = Tracker(folder, uri)
    ledger_of(ledger, tmp_path)
    assert tracker.close(60), tracker.failure
    assert tracker.experiment == "1"
    runs, points = counted(tmp_path / "mlflow.db")
    assert (runs, points) == expected(ledger)
    assert len(points) == 8 * 10 * 60
    # Again, and into a store that holds half of it.
    assert replay(folder, uri) == (len(ledger), None)
    assert counted(folder.database) == (runs, points)
    half = StudyFolder(tmp_path / "half")
    copy_database(empty_database, half)
    ledger_of(ledger[: len(ledger) // 2], half.path)
    assert replay(half, default_uri(half)) == (len(ledger) // 2, None)
    ledger_of(ledger[len(ledger) // 2 :], half.path)
    assert replay(half, default_uri(half)) == (len(ledger), None)
    assert counted(half.database) == (runs, points)


@pytest.mark.usefixtures("database")
@pytest.mark.slow
def test_what_was_written_but_answered_too_late_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a server dies between taking a request and answering it."""
    ledger, folder = study_records(), StudyFolder(tmp_path)
    store = MLflowStore(default_uri(folder), folder)
    assert store.answers()
    # The name of what each request asked for.
    lost: dict[str, str] = {}

    def lose(name: str) -> None:
        """Each request is answered the second time only."""
        do = getattr(store._client, name)

        def call(*arguments: Any, **options: Any) -> None:
            answer = do(*arguments, **options)
            request = f"{name} {arguments} {sorted(options)}"
            if request not in lost:
                lost[request] = name
                raise ConnectionError("no answer")
            return answer  # type: ignore[no-any-return]

        monkeypatch.setattr(store._client, name, call)

    for name in ("create_experiment", "create_run", "log_batch", "log_inputs", "set_terminated"):
        lose(name)
    writer = writer_of(ledger_of(ledger, tmp_path), store)
    assert writer.catch_up() and writer.problem is None
    assert len(set(lost.values())) == 5 and list(lost.values()).count("create_run") == 6
    assert counted(tmp_path / "mlflow.db") == expected(ledger)
