import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import parse_qs, urlsplit

import pytest

from study import mlflow_links
from study.mlflow_links import browse_command, default_uri


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
    monkeypatch.setattr(mlflow_links, "urlopen", _refused)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example/")
    command, link = browse_command(tmp_path).splitlines()
    assert command == "runs at https://mlflow.example/"
    assert link.startswith("https://mlflow.example/#/experiments/0/runs?")


def _refused(*arguments: Any, **options: Any) -> None:
    raise URLError("away")
