"""The process that writes beside a study, and a server that is killed under both."""

import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from study.ledger import StudyFolder
from study.tracking.tracker import Tracker, browse_lines, default_uri, without_secrets
from tests.study.tracking.mlflow_server import Server, counted
from tests.study.tracking.struck import run_struck


def test_other_words_of_the_writer_process_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["printf", r'a warning\n3\n{"experiment": "4"}\n{"failure": "lost"}\n']
    monkeypatch.setattr("study.tracking.tracker.own_command", lambda *_: words)
    tracker = Tracker(StudyFolder(tmp_path), "sqlite://")
    assert not tracker.close(60)
    assert (tracker.experiment, tracker.failure) == ("4", "lost")


# Dies so often, as counted in a file, before it does its work.
DIES = """
n=$(cat count 2>/dev/null || echo 0); echo $((n + 1)) > count
[ $n -ge {deaths} ] || kill -9 $$
cat; echo '{{"failure": null}}'
"""


@pytest.mark.parametrize("deaths", [0, 1, 3, 4])
def test_a_writer_that_dies_is_started_again_with_a_limit(
    deaths: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["sh", "-c", DIES.format(deaths=deaths)]
    monkeypatch.setattr("study.tracking.tracker.own_command", lambda *_: words)
    tracker = Tracker(StudyFolder(tmp_path), "sqlite://")
    end = time.monotonic() + 60
    started = min(deaths, 3) + 1
    while not (tmp_path / "count").exists() or (
        (tmp_path / "count").read_text() != f"{started}\n" and time.monotonic() < end
    ):
        time.sleep(0.01)
    # The last one has begun to wait for the end of the study.
    time.sleep(0.1)
    assert tracker.close(60) == (deaths < 4)
    warned = capsys.readouterr().out.count("the process that writes to MLflow died (code -9")
    assert warned == min(deaths, 3)
    if deaths == 4:
        assert tracker.failure is not None and "ended with code -9" in tracker.failure


SECRETS = [
    ("http://alice:S3cretPassw0rd@127.0.0.1:9", "http://***@127.0.0.1:9"),
    ("https://S3cretToken@mlflow.example/x", "https://***@mlflow.example/x"),
    (
        "postgresql://u:S3cret%2Fp@db/runs?sslpassword=S3cretKey",
        "postgresql://***@db/runs?sslpassword=***",
    ),
    ("mssql+pyodbc:///?odbc_connect=PWD%3DS3cret", "mssql+pyodbc:///?odbc_connect=***"),
    ("sqlite:////srv/all.db", "sqlite:////srv/all.db"),
]


@pytest.mark.parametrize(("uri", "shown"), SECRETS)
def test_secrets_of_a_uri_are_nowhere(
    uri: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert without_secrets(uri) == shown
    said = without_secrets(uri, f"cannot reach {uri}, or {unquote(uri)}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    lines = browse_lines(StudyFolder(tmp_path), "12")
    assert not [text for text in (said, *lines) if "S3cret" in text]
    started: list[list[str]] = []
    monkeypatch.setattr("subprocess.Popen", lambda command, **_: started.append(command))
    Tracker(StudyFolder(tmp_path), uri)
    assert not [word for word in started[0] if "S3cret" in word]


def test_default_uri_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_uri(StudyFolder(Path("out"))) == f"sqlite:///{tmp_path}/out/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "command", "server"),
    [
        ("", "--port 5000 --backend-store-uri 'sqlite:///{}/mlflow.db'", "http://127.0.0.1:5000"),
        ("sqlite:////srv/all.db", "-uri sqlite:////srv/all.db", "http://127.0.0.1:5000"),
        ("postgresql://db/runs", "-uri postgresql://db/runs", "http://127.0.0.1:5000"),
        (
            "http://localhost:5001/",
            "ray attach -p 5001 CLUSTER.yaml (from elsewhere; here it runs)",
            "http://localhost:5001",
        ),
        ("https://mlflow.example", "runs at https://mlflow.example", "https://mlflow.example"),
    ],
)
def test_every_store_is_browsed_and_linked_to_where_the_experiment_is_known(
    uri: str, command: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    folder = StudyFolder(tmp_path / "my study")
    first, link = browse_lines(folder, "12")
    assert first.endswith(command.format(folder.path))
    view = "workflowType=machine_learning&viewStateShareKey=study&compareRunsMode=CHART"
    assert link == f"{server}/#/experiments/12/runs?{view}"
    assert browse_lines(folder, None) == [first]


@pytest.mark.nightly
@pytest.mark.process
def test_a_server_that_is_killed_under_a_real_study_loses_and_doubles_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_struck(server, lambda: counted(server.database), tmp_path, monkeypatch)
