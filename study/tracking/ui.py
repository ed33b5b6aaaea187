"""MLflow's own pages on the store of a study, served while a person looks at them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO

from study.ledger import StudyFolder
from study.system import own_environment
from study.tracking.database import experiment_in
from study.tracking.tracker import OWN_PORT, SERVERS, default_uri, runs_link, without_secrets

START_SECONDS = 120.0
STOP_SECONDS = 10.0
# Of what a server that does not start has said.
LAST_LINES = 5


class UnusableUiError(OSError):
    """MLflow's pages cannot be shown; says why."""


def has_own_store(folder: StudyFolder) -> bool:
    """Whether a study's records are in a database that no server is there for."""
    return not default_uri(folder).startswith(SERVERS)


@contextlib.contextmanager
def served(
    folder: StudyFolder, stopped: Callable[[], bool]
) -> Iterator[tuple[str, Callable[[], bool] | None]]:
    """The address of MLflow's page of a study's runs, and whether its server still runs.

    Where there is a server already, it is that one's, and nothing is to be asked. Else it ends with
    the context; `stopped` is asked while it starts.

    Raises:
        UnusableUiError: if there is no store, or the server does not start.
    """
    uri = default_uri(folder)
    if not has_own_store(folder):
        yield f"{without_secrets(uri).rstrip('/')}/#/experiments", None
        return
    own = uri == f"sqlite:///{folder.database.resolve()}"
    if own and not folder.database.is_file():
        raise UnusableUiError(f"MLflow has no records of it; {folder.command('--replay')} mends it")
    port = _free_port()
    server = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log, _running(uri, port, log) as process:
        _wait(process, server, log, stopped)
        experiment = experiment_in(folder.database.resolve()) if own else None
        yield runs_link(server, experiment), lambda: process.poll() is None


@contextlib.contextmanager
def _running(uri: str, port: int, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-P", "-m", "mlflow", "ui", "--workers", "1", "--port", str(port)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        # The store by its variable: everybody on this machine sees arguments. Without job
        # execution it starts in 5 seconds instead of 15.
        env={
            **own_environment(),
            "MLFLOW_BACKEND_STORE_URI": uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        # Ctrl-C is for this process, which ends all of that one's.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                break


def _wait(
    process: subprocess.Popen[bytes], server: str, log: IO[bytes], stopped: Callable[[], bool]
) -> None:
    """Waits until the server answers."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end and not stopped():
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{server}/health", timeout=5).close()
            return
        time.sleep(0.2)
    if not stopped():
        log.seek(0)
        said = log.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        raise UnusableUiError("MLflow's server does not start: " + " / ".join(said))


def _free_port() -> int:
    """The usual port, or a free one where another process has that."""
    for port in (OWN_PORT, 0):
        with contextlib.suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            return int(tried.getsockname()[1])
    raise UnusableUiError("this machine has no free port")
