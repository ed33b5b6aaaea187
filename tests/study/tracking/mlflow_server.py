"""An `mlflow server` on loopback that a test can kill and start again on the same database."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from study.ledger import Record
from study.tracking.runs import finite

# It imports for seconds, and the cores may be busy with other studies.
PATIENCE_SECONDS = 180.0


class Server:
    """Its data lie in `folder`, or in `variables`; `uri` stays when it is started again.

    `variables` are those of its environment: another database, other artifacts.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str] = {}) -> None:
        self.folder = folder
        self._variables = {
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{self.database}",
            "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "kept"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **variables,
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "mlflow.db"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--port", str(self.port)]
        # A group of its own: the server's workers end with it.
        self._process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **self._variables},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            with suppress(OSError):
                urlopen(f"{self.uri}/health", timeout=1).close()
                return
            time.sleep(0.1)
        raise TimeoutError(f"the server must answer within {PATIENCE_SECONDS:g} seconds.")

    def kill(self) -> None:
        """Ends it as a power cut would; nothing happens where it does not run."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def counted(database: Path) -> tuple[Counter[str], Counter[tuple[str, str, int]]]:
    """As `counted_in`, of a SQLite file."""
    with closing(sqlite3.connect(database)) as connection:
        return counted_in(connection.cursor())


def counted_in(cursor: Any) -> tuple[Counter[str], Counter[tuple[str, str, int]]]:
    """How often a database holds each item's run, and each point (trial, metric, task)."""
    runs = "SELECT value, COUNT(*) FROM tags WHERE key = 'study_item' GROUP BY value"
    points = (
        "SELECT tags.value, metrics.key, metrics.step, COUNT(*) FROM metrics "
        "JOIN tags ON tags.run_uuid = metrics.run_uuid AND tags.key = 'study_item' "
        "JOIN tags AS role ON role.run_uuid = metrics.run_uuid AND role.key = 'role' "
        "WHERE role.value IN ('search', 'confirm') GROUP BY 1, 2, 3"
    )
    cursor.execute(runs)
    items = Counter(dict(cursor.fetchall()))
    cursor.execute(points)
    return items, Counter({tuple(row[:3]): row[3] for row in cursor.fetchall()})


def expected(records: Iterable[Record]) -> tuple[Counter[str], Counter[tuple[str, str, int]]]:
    """As `counted`, of a store that holds the records of a ledger, each once."""
    runs: Counter[str] = Counter({"study": 1})
    points: Counter[tuple[str, str, int]] = Counter()
    for record in records:
        if record["kind"] in ("cell", "trial"):
            runs[record[record["kind"]]] = 1
        elif record["kind"] == "task":
            for key in finite(record["metrics"]):
                points[record["trial"], key, record["task"]] = 1
    return runs, points
