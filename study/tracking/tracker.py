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
from urllib.parse import unquote_plus, urlsplit

from study.ledger import StudyFolder
from study.system import own_command, own_environment, say

VIEW = "study"
MOST_RESTARTS = 3
# Keys of a URI's query whose values are nobody's business.
SECRETS = ("password", "passwd", "pwd", "passphrase", "token", "secret", "key", "odbc_connect")
HIDDEN = "***"
# Letters; a shorter secret would be found in any text, where it tells nothing.
SHORT_SECRET = 3
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
        self._command = own_command("study.tracking.writer", [str(folder.path.resolve())])
        self._uri = uri
        self._heard = self._closing = False
        self._lock = threading.Lock()
        self._process = self._started()
        if self._process is not None:
            self._reader = threading.Thread(target=self._follow, daemon=True)
            self._reader.start()

    def close(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the last record; True when every one was written."""
        with self._lock:
            self._closing = True
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
        # Its disk may have become read-only.
        with contextlib.suppress(OSError):
            if not self._log.stat().st_size:
                self._log.unlink()
        return self.failure is None

    def _started(self) -> subprocess.Popen[str] | None:
        """A process that writes; None, with a failure, where none can be started."""
        try:
            with self._log.open("ab") as log:
                return subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    # Not as an argument: everybody on this machine sees those.
                    env={**own_environment(), URI_VARIABLE: self._uri},
                    # Ctrl-C is for the study, whose end this process still writes.
                    start_new_session=True,
                )
        except OSError as error:
            self.failure = f"MLflow could not take any record: {error}."
            return None

    def _follow(self) -> None:
        """Reads what the process says, and starts another one where it dies before its work ends.

        The new one reads the ledger from its beginning: what is in the store already stays single.
        """
        for restarts in range(MOST_RESTARTS + 1):
            assert self._process is not None
            self._read(self._process)
            code = self._process.wait()
            with self._lock:
                if self._heard or self._closing or restarts == MOST_RESTARTS:
                    return
                process = self._started()
                if process is None:
                    return
                self._process = process
            say(
                f"Warning: the process that writes to MLflow died (code {code}, see {self._log}); "
                f"another one goes on ({restarts + 1} of {MOST_RESTARTS})."
            )

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Passes on what the process says."""
        assert process.stdout is not None
        for line in process.stdout:
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
        place, server = urlsplit(uri), without_secrets(uri).rstrip("/")
        command = f"runs at {server}"
        if place.hostname in ("127.0.0.1", "localhost"):
            port = place.port or 80
            command = f"ray attach -p {port} CLUSTER.yaml (from elsewhere; here it runs)"
    else:
        server = f"http://127.0.0.1:{OWN_PORT}"
        command = (
            # Without job execution and with one worker it starts in 5 seconds instead of 15.
            "MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false "
            f"{_program()} ui --workers 1 --port {OWN_PORT} --backend-store-uri {_quoted(uri)}"
        )
    if experiment is None:
        return [command]
    return [command, runs_link(server, experiment)]


def runs_link(server: str, experiment: str | None) -> str:
    """The page of a server with the charts of an experiment's cells; all where none is known."""
    if experiment is None:
        return f"{server}/#/experiments"
    view = f"workflowType=machine_learning&viewStateShareKey={VIEW}&compareRunsMode=CHART"
    return f"{server}/#/experiments/{experiment}/runs?{view}"


def without_secrets(uri: str, text: str | None = None) -> str:
    """The URI, or a text that may repeat it, without its user, password and secret values."""
    place = urlsplit(uri)
    who, at, host = place.netloc.rpartition("@")
    secrets = [who, *who.split(":", 1)] if at else []
    query = []
    for pair in place.query.split("&"):
        key, is_given, value = pair.partition("=")
        if is_given and any(secret in key.lower() for secret in SECRETS):
            secrets.append(value)
            pair = f"{key}={HIDDEN}"
        query.append(pair)
    if not secrets:
        return uri if text is None else text
    netloc = f"{HIDDEN}@{host}" if at else place.netloc
    shown = (
        f"{place.scheme}://{netloc}{place.path}" + ("?" if place.query else "") + "&".join(query)
    )
    if text is None:
        return shown
    hidden = text.replace(uri, shown)
    for secret in sorted({*secrets, *map(unquote_plus, secrets)}, key=len, reverse=True):
        if len(secret) > SHORT_SECRET:
            hidden = hidden.replace(secret, HIDDEN)
    return hidden


def _quoted(uri: str) -> str:
    """The URI for a shell; where it holds a secret, the variable that has it."""
    return shlex.quote(uri) if without_secrets(uri) == uri else f'"${URI_VARIABLE}"'


def _program() -> str:
    """MLflow beside this Python, which may not be the one on the path."""
    beside = Path(sys.executable).with_name("mlflow")
    installed = shutil.which("mlflow")
    own = installed is not None and Path(installed) == beside
    return "mlflow" if own else f"{shlex.quote(sys.executable)} -m mlflow"
