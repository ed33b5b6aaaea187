"""A ledger is brought to a store later, or refused with what is wrong with it."""

import json
import sys
import time
from pathlib import Path

import pytest

from study import run
from study.ledger import StudyFolder, read_ledger, records
from study.tracking.tracker import Tracker, default_uri
from tests.study.histories import facts, ledger_of
from tests.study.tracking.mlflow_server import counted, expected
from tests.study.tracking.tracked import study_records


@pytest.mark.process
def test_the_store_is_away_from_the_start_and_the_ledger_is_replayed(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ledger_of(study_records(), tmp_path)
    tracker = Tracker(StudyFolder(tmp_path), "http://alice:S3cretPassw0rd@127.0.0.1:1")
    started, out = time.monotonic(), ""
    while "cannot be reached" not in out:
        assert time.monotonic() < started + 60
        time.sleep(0.2)
        out += capsys.readouterr().out
    # Neither the list of processes, nor the terminal, nor any file has the password.
    assert tracker._process is not None
    seen = [Path(f"/proc/{tracker._process.pid}/cmdline").read_bytes(), out.encode()]
    seen += [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()]
    assert not [text for text in seen if b"S3cret" in text]
    started = time.monotonic()
    assert not tracker.close(60)
    assert time.monotonic() - started < 10
    assert tracker.failure is not None and "Connection refused" in tracker.failure
    assert "S3cret" not in tracker.failure
    uri = default_uri(StudyFolder(tmp_path))
    assert run.main(["--replay", str(tmp_path), "--tracking-uri", uri]) == 0
    assert capsys.readouterr().out == f"Study: {tmp_path}\n24 records of {tmp_path} are in {uri}.\n"
    assert counted(database) == expected(read_ledger(path))


def test_a_replay_of_nothing_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--replay", "nowhere"]) == 2
    assert "--replay must name the folder of a study" in capsys.readouterr().err
    assert run.main(["--tracking-uri", "sqlite:////x"]) == 2
    assert "--tracking-uri must be given with --replay" in capsys.readouterr().err


@pytest.mark.slow
def test_a_driver_of_a_database_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger_of(study_records(), tmp_path)
    # As where it is not installed, here too.
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    uri = "postgresql://127.0.0.1:1/runs"
    assert run.main(["--replay", str(tmp_path), "--tracking-uri", uri]) == 2
    error = capsys.readouterr().err
    assert "A store at postgresql:// needs the Python package psycopg" in error


def test_a_variable_that_names_no_store_is_refused_before_a_study(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "/srv/runs")
    assert run.main(["quickstart"]) == 2
    error = capsys.readouterr().err
    assert "MLFLOW_TRACKING_URI must begin with one of" in error and "'/srv/runs'" in error
    assert run.main(["quickstart", "--validate"]) == 0


STUDY = json.dumps({**records.study("x", "?", facts({})), "time": 1.0})
CELL = json.dumps({**records.cell("c", {}, {}, {}, 1, 1, [0]), "time": 2.0})
NEWER = json.dumps({**records.resumed(facts({})), "version": 99, "time": 2.0})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "a ledger must hold a record of a study, but {} holds none."),
        ([STUDY, NEWER], f"a ledger must be of version {records.VERSION} at most"),
        ([STUDY, "{broken", CELL], "line 2 of {} is not"),
        ([CELL], "must begin with a record of kind 'study', but line 1 of {} is of kind 'cell'."),
    ],
    ids=["empty", "newer", "broken", "no study"],
)
def test_a_ledger_that_cannot_be_read_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], said: str
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert run.main(["--replay", str(tmp_path)]) == 2
    assert said.format(path) in capsys.readouterr().err
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.process
def test_a_ledger_that_cannot_be_read_is_a_failure_of_tracking(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.ledger.write_text(f"{STUDY}\n{{broken\n{CELL}\n", encoding="utf-8")
    tracker = Tracker(folder, default_uri(folder))
    assert not tracker.close(60)
    assert tracker.failure is not None
    assert f"line 2 of {folder.ledger} is not" in tracker.failure


@pytest.mark.slow
def test_a_database_that_cannot_be_read_and_a_mistyped_uri_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger_of(study_records(), tmp_path)
    (tmp_path / "other.db").write_bytes(b"no database " * 100)
    replayed = ["--replay", str(tmp_path), "--tracking-uri"]
    assert run.main([*replayed, f"sqlite:///{tmp_path}/other.db"]) == 1
    said = capsys.readouterr()
    assert "file is not a database" in said.err
    assert f"0 of 24 records were written to sqlite:///{tmp_path}/other.db" in said.out + said.err
    for mistyped in ("sqllite:////x.db", "mlflow.db"):
        assert run.main([*replayed, mistyped]) == 2
        assert "--tracking-uri must begin with one of" in capsys.readouterr().err
