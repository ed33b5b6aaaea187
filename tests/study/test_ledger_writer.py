"""Records reach the store once and in order, whatever the store does in between."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from study import run
from study.ledger import Ledger, Record, read_ledger
from study.ledger_writer import LedgerWriter, replay
from study.mlflow_links import default_uri
from study.tracker import Tracker
from study.tracking import MLflowStore
from tests.study.mlflow_server import Server, counted, expected
from tests.study.small_study import FIXED
from tests.study.test_run_tree import FakeStore, write_all
from tests.study.tracked import study_records


class PermissionDeniedError(Exception):
    """As MLflow's own, of a request that was answered."""


class Store(FakeStore):
    """The pretended store, which can be away, and can refuse what is of one kind."""

    errors = (ConnectionError, PermissionDeniedError)

    def __init__(self) -> None:
        super().__init__()
        self.refuses: str | None = None
        self.how: type[Exception] = PermissionDeniedError
        self.skipped = 0
        self.calls = 0
        self.leaves_at: tuple[int, ...] = ()

    def answers(self) -> bool:
        return not self.away

    def begin(self) -> None: ...

    def skip(self) -> bool:
        self.skipped += 1
        return False

    def write_tags(self, run: str, tags: dict[str, Any]) -> None:  # type: ignore[override]
        if self.refuses in tags:
            raise self.how(f"{self.refuses} is not taken")
        super().write_tags(run, tags)

    def write_metrics(self, run: str, metrics: Any, step: int, at: Record) -> None:
        self.calls += 1
        self.away = self.away or self.calls in self.leaves_at
        super().write_metrics(run, metrics, step, at)


def ledger_of(records: list[Record], folder: Path) -> Path:
    ledger = Ledger(folder / "ledger.jsonl")
    for one in records:
        ledger.append(one)
    ledger.close()
    return ledger.path


def writer_of(ledger: Path, store: Store, pauses: list[float]) -> LedgerWriter:
    return LedgerWriter(ledger, store, pauses.append)


def test_nothing_is_lost_or_twice_when_the_store_goes_and_comes_back(tmp_path: Path) -> None:
    records, store = study_records(), Store()
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
    records, store = study_records(), Store()
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
    records, store, pauses = study_records(), Store(), list[float]()
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
    store, pauses = Store(), list[float]()
    store.refuses, store.how = "best trial", ConnectionResetError
    writer = writer_of(ledger_of(study_records(), tmp_path), store, pauses)
    assert writer.catch_up() and writer.failure is not None
    assert len(pauses) == 11 and sum(pauses) > 60


def test_a_record_that_the_tree_cannot_take_is_told(tmp_path: Path) -> None:
    records, store = study_records(), Store()
    lost = {"kind": "task", "trial": "unknown", "task": 1, "metrics": {}, "time": 1.0}
    writer = writer_of(ledger_of([*records[:3], lost, *records[3:]], tmp_path), store, [])
    assert writer.catch_up()
    assert writer.failure is not None and "of kind 'task': KeyError: 'unknown'" in writer.failure
    assert store.metrics == write_all(records).metrics


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
    records, store = study_records(), Store()
    store.refuses = "host"
    writer = writer_of(ledger_of(records, tmp_path), store, [])
    assert writer.catch_up() and writer.failure is not None
    assert store.marked == {} and write_all(records).marked
    search = "search 01 · inflora · 3 tasks"
    assert (store.status[search], store.tags[search]["status"]) == (["FINISHED"], "completed")


def test_an_end_that_is_refused_is_written_with_the_study_s(tmp_path: Path) -> None:
    records, store = study_records(), Store()
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
    store._points["run"] = ["a point"]
    with pytest.raises(store.errors):
        store.flush()
    store.begin()
    assert not store.skip()
    assert locked.on and store._points == {"run": ["a point"]} and not store._held


def _tracked(store: MLflowStore) -> Any:
    return store._client.search_runs([store._experiment])


@pytest.mark.slow
def test_the_store_is_away_from_the_start_and_the_ledger_is_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ledger_of(study_records(), tmp_path)
    tracker = Tracker(tmp_path, "http://127.0.0.1:1")
    started = time.monotonic()
    while "cannot be reached" not in capsys.readouterr().out:
        assert time.monotonic() < started + 60
        time.sleep(0.2)
    started = time.monotonic()
    assert not tracker.close(60)
    assert time.monotonic() - started < 10
    assert tracker.failure is not None and "Connection refused" in tracker.failure
    uri = f"sqlite:///{tmp_path}/other.db"
    assert run.main(["--replay", str(tmp_path), "--tracking-uri", uri]) == 0
    assert capsys.readouterr().out == f"24 records of {tmp_path} are in {uri}.\n"
    assert counted(tmp_path / "other.db") == expected(read_ledger(path))


def test_a_replay_of_nothing_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--replay", "nowhere"]) == 2
    assert "--replay must name the folder of a study" in capsys.readouterr().err
    assert run.main(["--tracking-uri", "sqlite:////x"]) == 2
    assert "--tracking-uri must be given with --replay" in capsys.readouterr().err


STUDY, CELL = ('{"kind": "study", "name": "x", "time": 1.0}', '{"kind": "cell", "time": 2.0}')
NEWER = '{"kind": "resumed", "version": 99, "time": 2.0}'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "a ledger must hold a record of a study, but {} holds none."),
        ([STUDY, NEWER], "a ledger must be of version 1 at most"),
        ([STUDY, "{broken", CELL], "line 2 of {} is not"),
        ([CELL], "must begin with a record of kind 'study', but line 1 of {} is of kind 'cell'."),
    ],
    ids=["empty", "newer", "broken", "no study"],
)
def test_a_ledger_that_cannot_be_read_is_a_mistake_and_a_failure_of_tracking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], said: str
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
    assert run.main(["--replay", str(tmp_path)]) == 2
    assert said.format(path) in capsys.readouterr().err
    assert not (tmp_path / "mlflow.db").exists()
    if lines:
        tracker = Tracker(tmp_path, default_uri(tmp_path))
        assert not tracker.close(60)
        assert tracker.failure is not None and said.format(path) in tracker.failure


def test_a_database_that_cannot_be_read_and_a_mistyped_uri_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger_of(study_records(), tmp_path)
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 100)
    replayed = ["--replay", str(tmp_path), "--tracking-uri"]
    assert run.main([*replayed, f"sqlite:///{tmp_path}/mlflow.db"]) == 1
    said = capsys.readouterr()
    assert "file is not a database" in said.err
    assert f"0 of 24 records were written to sqlite:///{tmp_path}/mlflow.db" in said.out + said.err
    for mistyped in ("sqllite:////x.db", "mlflow.db"):
        assert run.main([*replayed, mistyped]) == 2
        assert "--tracking-uri must begin with one of" in capsys.readouterr().err


def test_other_words_of_the_writer_process_are_passed_over(tmp_path: Path) -> None:
    class Talking(Tracker):
        """Reads fixed lines."""

        def __init__(self) -> None:
            self.failure, self._told = None, False
            lines = ["a warning\n", "3\n", '{"failure": "lost"}\n']
            self._process = SimpleNamespace(stdout=lines)  # type: ignore[assignment]

    tracker = Talking()
    tracker._read()
    assert (tracker._told, tracker.failure) == (True, "lost")


DRIVER = """
import sys
import trainables.ray_trainable
from tests.study.fake_trainable import FakeTrainable
trainables.ray_trainable.ContinualTrainable = FakeTrainable
from study import run
sys.exit(run.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_server_that_is_killed_under_a_real_study_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real driver, Ray, four trials at a time; they only pretend to train."""
    server = Server(tmp_path)
    output = tmp_path / "out"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("FAKE_TRAINABLE_MARKS", str(tmp_path))
    study = ["quickstart", "--set", "grid={method.name: [inflora]}", "--set", "search=all"]
    changes = {
        **{key: value for key, value in FIXED.items() if key != "data.classes"},
        "data.classes": 40,
        "data.tasks": 20,
        "optim.optimizer": "sgd",
        "optim.weight_decay": 0.3,  # seconds a task takes
    }
    fixed = ", ".join(f"{key}: {_yaml(value)}" for key, value in changes.items())
    study += ["--set", f"fixed={{{fixed}}}", "--set", "pruner={kind: none}", "--set", "trials=4"]
    study += ["--set", "seeds=[0, 1]", "--set", "resources={cpu: 0.5}", "--set", "export=none"]
    command = [sys.executable, "-c", DRIVER, *study, "--output", str(output)]
    server.start()
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        ledger = output / "ledger.jsonl"
        _wait(lambda: _tasks(ledger) >= 20 and _runs(server) >= 4, driver)
        server.kill()
        _wait(lambda: _tasks(ledger) >= 60, driver)
        server.start()
        out, _ = driver.communicate(timeout=120)
        assert driver.returncode == 0, out
        assert out.count("MLflow cannot be reached") == 1
        assert "--replay" not in out
        records = read_ledger(ledger)
        launched = {one["trial"]: at for at, one in enumerate(records) if one["kind"] == "trial"}
        ended = {one["trial"]: at for at, one in enumerate(records) if one["kind"] == "end"}
        assert max(_alive(at, launched, ended) for at in range(len(records))) == 4
        found = counted(server.database)
        assert found == expected(records)
        assert len(found[1]) == (4 + 2) * 20 * 2
        assert replay(output, server.uri) == (len(records), None)
        assert counted(server.database) == found
    finally:
        driver.kill()
        driver.wait()
        server.kill()


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _alive(at: int, launched: dict[str, int], ended: dict[str, int]) -> int:
    return sum(start <= at < ended[trial] for trial, start in launched.items())


def _tasks(ledger: Path) -> int:
    return ledger.read_text(encoding="utf-8").count('"kind": "task"') if ledger.exists() else 0


def _runs(server: Server) -> int:
    return sum(counted(server.database)[0].values()) if server.database.exists() else 0


def _wait(until: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        assert driver.poll() is None, driver.communicate()[0]
        if until():
            return
        time.sleep(0.1)
    raise TimeoutError("the study must come so far within two minutes.")
