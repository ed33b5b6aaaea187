"""Stores of SQLite: made whole or not at all, and told when they are not."""

import errno
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from study.ledger import StudyFolder
from study.tracking.database import UnusableStoreError, file_of, make_whole
from study.tracking.mlflow_store import MLflowStore
from study.tracking.tracker import default_uri
from study.tracking.writer import replay
from tests.study.histories import ledger_of
from tests.study.tracking.conftest import copy_database
from tests.study.tracking.mlflow_server import counted, expected
from tests.study.tracking.tracked import study_records

RUN = [sys.executable, "-m", "study.run"]


def test_the_file_of_a_uri(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert file_of(f"sqlite:///{tmp_path}/link") == tmp_path / "there"
    for uri in ("sqlite://", "sqlite:///:memory:", "http://x", "postgresql://db/runs"):
        assert file_of(uri) is None


def half_made(path: Path, damage: str) -> None:
    """Makes a database unusable."""
    if damage == "no database":
        path.write_bytes(b"text" * 2000)
        return
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute(
            {
                "no version": "DELETE FROM alembic_version",
                "no tables": "DROP TABLE metrics",
                "another release": "UPDATE alembic_version SET version_num = 'ffffffffffff'",
            }[damage]
        )


DAMAGES = ["no database", "no version", "no tables", "another release"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_half_made_store_is_rebuilt_from_the_ledger_or_named(
    damage: str, database: Path, empty_database: Path, tmp_path: Path
) -> None:
    half_made(database, damage)
    folder, ledger = StudyFolder(tmp_path), study_records()
    ledger_of(ledger, tmp_path)
    assert replay(folder, default_uri(folder)) == (len(ledger), None)
    assert counted(database) == expected(ledger)
    assert [path.name for path in tmp_path.glob("mlflow.db.broken-*")] == ["mlflow.db.broken-1"]

    shared = StudyFolder(tmp_path / "shared")
    half_made(copy_database(empty_database, shared), damage)
    before = shared.database.read_bytes()
    store = MLflowStore(default_uri(shared), folder)
    with pytest.raises(UnusableStoreError, match=r"mlflow\.db (was|is|has) .*: remove that file"):
        store._open()
    assert shared.database.read_bytes() == before


@pytest.mark.slow
def test_an_empty_file_behind_a_link_is_a_store_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "mlflow.db").symlink_to(tmp_path / "there")
    folder = StudyFolder(tmp_path)
    assert MLflowStore(default_uri(folder), folder).answers()
    assert (tmp_path / "mlflow.db").is_symlink() and (tmp_path / "there").stat().st_size > 10_000
    assert not list(tmp_path.glob("*.new-*"))


def test_a_try_that_failed_does_not_spoil_the_next(tmp_path: Path) -> None:
    """MLflow keeps what it has opened by its name, though it be deleted."""
    tried: list[Path] = []

    class Client:
        def __init__(self, uri: str, registry: str) -> None:
            tried.append(Path(uri.removeprefix("sqlite:///")))

        def search_experiments(self, max_results: int) -> None:
            tried[-1].write_text("some tables")
            if len(tried) == 1:
                raise OSError(errno.ENOSPC, "No space left on device")

    mlflow, path = SimpleNamespace(MlflowClient=Client), tmp_path / "mlflow.db"
    with pytest.raises(OSError, match="No space"):
        make_whole(f"sqlite:///{path}", mlflow, own=True)
    assert not path.exists() and not list(tmp_path.glob("*.new-*"))
    make_whole(f"sqlite:///{path}", mlflow, own=True)
    assert path.read_text() == "some tables" and tried[0] != tried[1]


@pytest.mark.slow
def test_a_copied_study_has_its_artifacts_beside_it(database: Path, tmp_path: Path) -> None:
    old, ledger = StudyFolder(tmp_path), study_records()
    ledger_of(ledger, tmp_path)
    replay(old, default_uri(old))
    new = StudyFolder(tmp_path.with_name("copy of it"))
    shutil.copytree(old.path, new.path)
    shutil.rmtree(old.artifacts)
    # MLflow remembers in this process where a run's artifacts are.
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()
    assert replay(new, default_uri(new)) == (len(ledger), None)
    client = MLflowStore(default_uri(new), new)._open()
    (experiment,) = client.search_experiments(filter_string="name != 'Default'")
    assert experiment.artifact_location == new.artifacts.resolve().as_uri()
    runs = client.search_runs([experiment.experiment_id])
    home = f"{new.artifacts.resolve().as_uri()}/"
    assert runs and all(run.info.artifact_uri.startswith(home) for run in runs)
    client.log_text(runs[0].info.run_id, "text", "note.txt")
    assert not old.artifacts.exists()


def replayed(folder: Path, uri: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RUN, "--replay", str(folder), "--tracking-uri", uri],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.nightly
@pytest.mark.process
def test_a_maker_that_is_killed_leaves_a_store_that_can_be_made(tmp_path: Path) -> None:
    ledger = study_records()
    for moment in range(8):
        folder = tmp_path / str(moment)
        ledger_of(ledger, folder)
        uri = f"sqlite:///{folder}/mlflow.db"
        process = replayed(folder, uri)
        while not list(folder.glob("mlflow.db.new-*")) and process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.15 + 0.35 * moment)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        again = replayed(folder, uri)
        out, _ = again.communicate()
        assert again.returncode == 0, (moment, out)
        assert counted(folder / "mlflow.db") == expected(ledger)


@pytest.mark.nightly
@pytest.mark.process
def test_three_studies_meet_a_store_that_is_not_there(tmp_path: Path) -> None:
    ledger = study_records()
    uri = f"sqlite:///{tmp_path}/shared.db"
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        named = [
            {**record, "name": folder.name} if record["kind"] == "study" else record
            for record in ledger
        ]
        ledger_of(named, folder)
    processes = [replayed(folder, uri) for folder in folders]
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0, out
    runs, _ = expected(ledger)
    assert sum(counted(tmp_path / "shared.db")[0].values()) == 3 * sum(runs.values())
