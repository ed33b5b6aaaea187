"""SQLite stores of MLflow: made whole or not at all, and told when they are not."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock

# Another process makes the tables in some ten seconds, on a busy machine in a minute.
LOCK_SECONDS = 300
NEW = ".new-"


class UnusableStoreError(OSError):
    """A database that MLflow cannot use; says what is wrong with it and what mends it."""


def file_of(uri: str) -> Path | None:
    """The file of a tracking URI of SQLite, links followed; None of any other store."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    if not name or name == ":memory:" or name.startswith("file:"):
        return None
    # Links are followed: what is renamed must take the file's place, and not the link's.
    return Path(os.path.realpath(name))


def make_whole(uri: str, mlflow: Any, own: bool) -> None:
    """Makes the store of a URI where it is a file of SQLite that is not there.

    A lock beside the file lets one process at a time look and make. Does nothing for other stores.

    Args:
        uri: the tracking URI.
        mlflow: the package.
        own: whether the store is a study's alone, so that its ledger has all of it: one that is
            half made is put aside and made anew.

    Raises:
        UnusableStoreError: if the file is half made, or of another release of MLflow.
    """
    path = file_of(uri)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
        problem = _problem(path)
        if problem is None:
            return
        if problem != NOTHING:
            if not own:
                raise UnusableStoreError(
                    f"{path} {problem}: remove that file (studies have their records in their "
                    f"ledgers), or name another store"
                )
            _put_aside(path)
        _make(path, mlflow)


NOTHING = "is not there"
# Some of those that the first and later migrations make.
TABLES = frozenset(("experiments", "runs", "metrics", "registered_models", "inputs"))


def _problem(path: Path) -> str | None:
    """What is wrong with a database; None if MLflow has made it whole."""
    if not path.exists() or not path.stat().st_size:
        return NOTHING
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20)) as opened:
            tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
            revision = None
            if "alembic_version" in tables:
                revision = opened.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error) or "unable to open" in str(error):
            # Not for us to judge: MLflow will say it.
            return None
        return f"is no database of MLflow ({error})"
    if not tables:
        return NOTHING
    # Its tables come one after the other, and its version last.
    if revision is None or not tables >= TABLES:
        return "was left half made by a process that was killed or had no room"
    if revision[0] not in _known():
        return f"has tables of another release of MLflow (revision {revision[0]})"
    return None


def _known() -> set[str]:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(db_url=""))
    return {script.revision for script in scripts.walk_revisions()}


def experiment_in(path: Path) -> str | None:
    """The id of the experiment that was made last in a database; None where there is none."""
    query = "SELECT max(experiment_id) FROM experiments WHERE name != 'Default'"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20)) as opened:
            found = opened.execute(query).fetchone()[0]
    except sqlite3.DatabaseError:
        return None
    return None if found is None else str(found)


def _make(path: Path, mlflow: Any) -> None:
    """Makes all tables under another name beside the file, then renames it.

    A process that is killed meanwhile leaves a file that the next one removes.
    """
    for left in path.parent.glob(f"{path.name}{NEW}*"):
        left.unlink()
    # Never one name twice: of a try that failed, MLflow keeps the file open that is deleted here.
    new = path.with_name(f"{path.name}{NEW}{os.getpid()}-{time.monotonic_ns()}")
    try:
        uri = f"sqlite:///{new}"
        mlflow.MlflowClient(uri, uri).search_experiments(max_results=1)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _put_aside(path: Path) -> None:
    """Keeps a database that cannot be used, under a name that is free."""
    number = 1
    while (aside := path.with_name(f"{path.name}.broken-{number}")).exists():
        number += 1
    path.rename(aside)


def bring_home(path: Path, old: str, new: str) -> None:
    """Lets a database's artifacts lie below the URI `new`, where its study has moved to, not `old`.

    Args:
        path: the database.
        old: where they were to lie.
        new: where they lie now.
    """
    columns = (
        ("experiments", "artifact_location"),
        ("runs", "artifact_uri"),
        ("model_versions", "source"),
        ("model_versions", "storage_location"),
    )
    with closing(sqlite3.connect(path, timeout=20)) as opened, opened:
        for table, column in columns:
            opened.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
            )
