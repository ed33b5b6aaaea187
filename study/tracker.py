"""Tracker: MLflow beside a running study, in a process of its own that follows the ledger."""

import json
import subprocess
import threading
from pathlib import Path

from study.ledger import NAME
from study.own_process import own_command, own_environment
from study.storage import command
from study.terminal import say

LOG = "mlflow.log"


class Tracker:
    """Starts the process that writes a study's ledger to MLflow; see `study.ledger_writer`.

    It reads the file, so handing a record over costs the study nothing, and what a store that is
    away misses is kept where it is safe anyway. It ends when this process does, however that
    ends, once it has written what is there. Tracking never fails a study: `failure` says what
    went wrong.

    Args:
        output: the study's folder.
        uri: tracking URI of MLflow.
    """

    def __init__(self, output: Path, uri: str) -> None:
        self.failure: str | None = None
        self._log = output / LOG
        arguments = own_command("study.ledger_writer", [str(output.resolve()), uri])
        self._told = False
        self._process: subprocess.Popen[str] | None = None
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    arguments,
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
        self._reader = threading.Thread(target=self._read, name="mlflow", daemon=True)
        self._reader.start()

    def close(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the last record; True when every one was written."""
        if self._process is None:
            return False
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout)
        except BrokenPipeError:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.failure = f"MLflow did not take every record within {timeout:g} seconds."
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        if not self._told and self.failure is None:
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
            if not isinstance(words, dict) or not {"away", "failure"} & set(words):
                continue
            if "away" in words:
                say(
                    f"Warning: MLflow cannot be reached ({words['away']}). The study goes on; what "
                    f"is missed is written when MLflow is back."
                )
            else:
                self._told = True
                self.failure = self.failure or words["failure"]


def missing_in_mlflow(failure: str | None, output: Path) -> str:
    """Says what MLflow does not have of a study, and how it gets it later."""
    return (
        f"Warning: {failure} Everything is in {output / NAME}; bring it to MLflow with: "
        f"{command('--replay', output)}"
    )
