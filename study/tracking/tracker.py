"""Tracker: MLflow beside a running study, where it is and how a person opens it, not importing it.

A process of its own follows the ledger.
"""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from study.ledger import StudyFolder
from study.system import own_command, own_environment, say

VIEW = "study"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
SERVERS = ("http://", "https://")
# Where `mlflow ui` is told to answer.
OWN_PORT = 5000


class Tracker:
    """Starts the process that writes a study's ledger to MLflow; see `study.tracking.writer`.

    It reads the file, so handing a record over costs the study nothing, and what a store that is
    away misses is kept where it is safe anyway. It ends when this process does, however that
    ends, once it has written what is there. Tracking never fails a study: `failure` says what
    went wrong. `experiment` is the id of the study's experiment, once it is known.

    Args:
        folder: that of the study.
        uri: tracking URI of MLflow.
    """

    def __init__(self, folder: StudyFolder, uri: str) -> None:
        self.failure: str | None = None
        self.experiment: str | None = None
        self._log = folder.tracking_log
        command = own_command("study.tracking.writer", [str(folder.path.resolve()), uri])
        self._heard = False
        self._process: subprocess.Popen[str] | None = None
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=own_environment(),
                    # Ctrl-C is for the study, whose end this process still writes.
                    start_new_session=True,
                )
        except OSError as error:
            self.failure = f"MLflow could not take any record: {error}."
            return
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the last record; True when every one was written."""
        if self._process is None:
            return False
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.failure = f"MLflow did not take every record within {timeout:g} seconds."
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        if not self._heard and self.failure is None:
            self.failure = (
                f"MLflow could not take every record: its process ended with code "
                f"{self._process.returncode}, see {self._log}."
            )
        if self._log.exists() and not self._log.stat().st_size:
            self._log.unlink()
        return self.failure is None

    def _read(self) -> None:
        """Passes on what the process says."""
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            try:
                words = json.loads(line)
            except ValueError:
                words = None
            # A library's own words can be among them.
            if not isinstance(words, dict):
                continue
            if "away" in words:
                say(
                    f"Warning: MLflow cannot be reached ({words['away']}). The study goes on; what "
                    f"is missed is written when MLflow is back."
                )
            elif "experiment" in words:
                self.experiment = words["experiment"]
            elif "failure" in words:
                self._heard = True
                self.failure = self.failure or words["failure"]


def missing_in_mlflow(failure: str | None, folder: StudyFolder) -> str:
    """Says what MLflow does not have of a study, and how it gets it later."""
    return (
        f"Warning: {failure} Everything is in {folder.ledger}; bring it to MLflow with: "
        f"{folder.command('--replay')}"
    )


def default_uri(folder: StudyFolder) -> str:
    """Returns the tracking URI that MLFLOW_TRACKING_URI names, else that of the folder's database.

    A cluster's head runs a server, to which the process that drives a study is the only writer.
    """
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{folder.database.resolve()}"


def browse_lines(folder: StudyFolder, experiment: str | None) -> list[str]:
    """Returns the command that opens MLflow on a study's folder, then the link to its runs.

    MLflow's own first page is about something else, and empty. Without the id of the experiment
    there is no link.
    """
    uri = default_uri(folder)
    if uri.startswith(SERVERS):
        place, server = urlsplit(uri), uri.rstrip("/")
        command = f"runs at {uri}"
        if place.hostname in ("127.0.0.1", "localhost"):
            port = place.port or 80
            command = f"ray attach -p {port} CLUSTER.yaml (from elsewhere; here it runs)"
    else:
        server = f"http://127.0.0.1:{OWN_PORT}"
        command = (
            # Without job execution and with one worker it starts in 5 seconds instead of 15.
            "MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false "
            f"{_program()} ui --workers 1 --port {OWN_PORT} --backend-store-uri {shlex.quote(uri)}"
        )
    if experiment is None:
        return [command]
    view = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    return [command, f"{server}/#/experiments/{experiment}/runs?{view}"]


def _program() -> str:
    """MLflow beside this Python, which may not be the one on the path."""
    beside = Path(sys.executable).with_name("mlflow")
    installed = shutil.which("mlflow")
    own = installed is not None and Path(installed) == beside
    return "mlflow" if own else f"{shlex.quote(sys.executable)} -m mlflow"
