"""A database of MLflow for each test, copied from one that was made once a run."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from study.ledger import StudyFolder
from study.tracking.mlflow_store import MLflowStore
from study.tracking.tracker import default_uri
from tests.study.tracking.mlflow_server import Server


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs: its migrations take seconds."""
    folder = StudyFolder(tmp_path_factory.mktemp("mlflow"))
    assert MLflowStore(default_uri(folder), folder).answers()
    return folder.database


def copy_database(source: Path, folder: StudyFolder) -> Path:
    """Copies a database that others may have open into a folder, as a study's own."""
    folder.path.mkdir(parents=True, exist_ok=True)
    target = folder.database
    with closing(sqlite3.connect(source)) as opened, closing(sqlite3.connect(target)) as copied:
        opened.backup(copied)
    return target


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """The database of a study whose folder is `tmp_path`."""
    return copy_database(empty_database, StudyFolder(tmp_path))


@pytest.fixture
def server(database: Path) -> Iterator[Server]:
    """A server of that database, not started yet."""
    server = Server(database.parent)
    yield server
    server.kill()
