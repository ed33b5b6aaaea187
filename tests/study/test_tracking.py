import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest

from study import tracking
from study.ledger import Record
from study.tracking import Tracker, browse_command, default_uri, replay
from tests.study.analysis import engine_ledgers
from tests.study.tracked import CELL, study_records


def test_importing_it_does_not_import_mlflow_or_matplotlib() -> None:
    code = "import sys, study.tracking; sys.exit(bool({'mlflow', 'matplotlib'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_default_uri_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_uri(Path("out")) == f"sqlite:///{tmp_path}/out/mlflow.db"


def test_browse_command_quotes_and_links_to_the_newest_experiment(tmp_path: Path) -> None:
    output = tmp_path / "my study"
    output.mkdir()
    with sqlite3.connect(output / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER, lifecycle_stage TEXT)")
        database.execute("INSERT INTO experiments VALUES (0, 'active'), (7, 'active')")
    database.close()
    command, link = browse_command(output).splitlines()
    assert command.endswith(f"--backend-store-uri 'sqlite:///{output}/mlflow.db'")
    assert link.startswith("http://127.0.0.1:5000/#/experiments/7/runs?")


def test_browse_command_without_a_database(tmp_path: Path) -> None:
    assert "/#/experiments/0/runs" in browse_command(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def server() -> Iterator[str]:
    """A server that knows one experiment, as MLflow's would answer; its URI."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = parse_qs(urlsplit(self.path).query) == {"experiment_name": ["quick"]}
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(b'{"experiment": {"experiment_id": "12"}}')

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_a_server_is_written_to_and_browsed(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    (tmp_path / "ledger.jsonl").write_text('{"kind": "study", "name": "quick"}\n')
    assert default_uri(tmp_path) == server
    command, link = browse_command(tmp_path).splitlines()
    port = server.rpartition(":")[2]
    assert command == f"ray attach -p {port} CLUSTER.yaml (from elsewhere; here it runs)"
    assert link.startswith(f"{server}/#/experiments/12/runs?")


def test_a_server_that_is_away_is_named_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"kind": "study", "name": "quick"}\n')
    monkeypatch.setattr(tracking, "urlopen", _refused)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example/")
    command, link = browse_command(tmp_path).splitlines()
    assert command == "runs at https://mlflow.example/"
    assert link.startswith("https://mlflow.example/#/experiments/0/runs?")


def _refused(*arguments: Any, **options: Any) -> None:
    raise URLError("away")


@pytest.mark.slow
def test_artifacts_go_through_the_server(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    kept = ["--artifacts-destination", str(tmp_path / "kept")]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen([*command, *store, *kept], cwd=tmp_path, env=environment)
    try:
        for _ in range(300):
            with suppress(OSError):
                urlopen(f"{uri}/health", timeout=1).close()
                break
            time.sleep(0.2)
        tracker = Tracker(uri, tmp_path / "not-used")
        replay(study_records(), tracker)
        assert tracker.close(120), tracker.failure
        import mlflow

        runs = runs_of(mlflow.MlflowClient(uri, uri))
        places = {run.info.artifact_uri.partition(":")[0] for run in runs.values()}
        assert places == {"mlflow-artifacts"}
        assert list((tmp_path / "kept").rglob("accuracy_matrix.png"))
        assert not (tmp_path / "not-used").exists()
    finally:
        process.terminate()
        process.wait(30)


def test_a_record_that_cannot_be_drawn_does_not_keep_later_ones_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    class Store:
        error = ConnectionError

        def __init__(self, uri: str, artifacts: Path) -> None:
            pass

    class Tree:
        def __init__(self, store: Store) -> None:
            pass

        def write(self, record: Record) -> None:
            written.append(record["kind"])
            if record["kind"] == "end":
                raise ValueError("nothing to draw.")

    monkeypatch.setattr(tracking, "_MLflowStore", Store)
    monkeypatch.setattr(tracking, "RunTree", Tree)
    tracker = Tracker("", tmp_path)
    for kind in ("trial", "end", "finished"):
        tracker.write({"kind": kind, "time": 1.0})
    assert not tracker.close(5)
    assert written == ["trial", "end", "finished"]
    assert tracker.failure is not None and "'end': ValueError: nothing to draw." in tracker.failure


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a store into which one study was written, then replayed by another tracker."""
    output = tmp_path_factory.mktemp("tracked")
    uri = default_uri(output)
    for _ in range(2):
        tracker = Tracker(uri, output / "artifacts")
        replay(study_records(), tracker)
        assert tracker.close(120), tracker.failure
    import mlflow

    yield mlflow.MlflowClient(uri)
    assert "/#/experiments/1/runs" in browse_command(output)


def runs_of(client: Any) -> dict[str, Any]:
    experiment = client.get_experiment_by_name("quick").experiment_id
    runs = client.search_runs([experiment])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


@pytest.mark.slow
def test_runs_are_nested_and_written_once(client: Any) -> None:
    runs = runs_of(client)
    study, cell = runs["quick · 2026-11-21 12:00 UTC"], runs["inflora · 3 tasks"]
    trial = runs["seed 5 (confirm) · inflora · 3 tasks"]
    assert len(runs) == 6
    assert cell.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert trial.data.tags["mlflow.parentRunId"] == cell.info.run_id
    assert trial.data.params["backbone.adapt"] == "null"
    assert trial.data.tags["cell"] == CELL
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert trial.info.end_time - trial.info.start_time == 4000


@pytest.mark.slow
def test_metrics_are_stepped_by_task_and_written_once(client: Any) -> None:
    runs = runs_of(client)
    for name in ("seed 5 (confirm) · inflora · 3 tasks", "inflora · 3 tasks"):
        history = client.get_metric_history(runs[name].info.run_id, "test/accuracy")
        assert [point.step for point in history] == [1, 2, 3]
    assert runs["inflora · 3 tasks"].data.metrics["best/val/accuracy"] == 0.7


@pytest.mark.slow
def test_artifacts(client: Any, tmp_path: Path) -> None:
    runs = runs_of(client)
    run = runs["seed 6 (confirm) · inflora · 3 tasks"].info.run_id
    assert {file.path for file in client.list_artifacts(run)} == {
        "accuracy_matrix.csv",
        "accuracy_matrix.json",
        "accuracy_matrix.png",
        "free_dimensions.png",
    }
    table = Path(client.download_artifacts(run, "accuracy_matrix.csv", str(tmp_path)))
    assert len(table.read_text().splitlines()) == 4
    study = runs["quick · 2026-11-21 12:00 UTC"].info.run_id
    assert [file.path for file in client.list_artifacts(study)] == ["study.yaml"]


@pytest.mark.slow
def test_a_later_session_goes_on_in_the_same_runs(tmp_path: Path) -> None:
    """Each session has a tracker of its own, which is told everything from the beginning."""
    records = engine_ledgers.resumed()
    place = next(i for i, one in enumerate(records) if one["kind"] == "resumed")
    uri = default_uri(tmp_path)
    for known in (records[:place], records):
        tracker = Tracker(uri, tmp_path / "artifacts")
        replay(known, tracker)
        assert tracker.close(120), tracker.failure
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("engine").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert len(runs) == len(client.search_runs([experiment])) == 6
    study = runs["engine · 1970-01-12 13:46 UTC"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert study.data.tags["commit"] == "def"
    files = {file.path for file in client.list_artifacts(study.info.run_id)}
    assert files == {"study.yaml", "study_2.yaml"}
    search = runs["search 01 · inflora · 10 tasks"].info.run_id
    history = client.get_metric_history(search, "val/accuracy")
    assert [point.step for point in history] == list(range(1, 11))


@pytest.mark.slow
def test_the_picture_of_a_front_is_with_its_cell(tmp_path: Path) -> None:
    uri = default_uri(tmp_path)
    tracker = Tracker(uri, tmp_path / "artifacts")
    replay(engine_ledgers.several_objectives(), tracker)
    assert tracker.close(120), tracker.failure
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("engine").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    cell = runs["inflora · 10 tasks"]
    assert [file.path for file in client.list_artifacts(cell.info.run_id)] == ["front.png"]
    assert json.loads(cell.data.tags["front"])[2]["method.rank"] == 2
    picture = Path(client.download_artifacts(cell.info.run_id, "front.png", str(tmp_path)))
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_store_out_of_reach_holds_nothing_up(tmp_path: Path) -> None:
    tracker = Tracker("http://127.0.0.1:1", tmp_path)
    started = time.monotonic()
    replay(study_records(), tracker)
    assert time.monotonic() - started < 0.5
    assert not tracker.close(1)
    assert time.monotonic() - started < 2
    assert tracker.failure is not None


@pytest.mark.slow
def test_a_record_must_have_its_time(tmp_path: Path) -> None:
    tracker = Tracker(default_uri(tmp_path), tmp_path)
    with pytest.raises(ValueError, match="must have a 'time'"):
        tracker.write({"kind": "end"})
    assert tracker.close(60)
