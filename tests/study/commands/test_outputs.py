"""Of a study whose outputs break, the ledger is that of one that nobody disturbs."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import run
from study.ledger import Record, StudyFolder, read_ledger
from tests.study.engine.each_once import check_each_once, measured
from tests.study.engine.processes import count
from tests.study.small_study import FIXED
from tests.study.tracking.mlflow_server import Server

SCRIPT = Path(run.__file__)
pytestmark = [pytest.mark.process, pytest.mark.nightly]
# Grid sampling without pruning: what a trial measures depends on its settings alone.
STUDY: dict[str, Any] = {
    "name": "outputs",
    "question": "Does a terminal matter?",
    "grid": {"method.name": ["sequential", "sd_lora"], "data.tasks": [2, 4]},
    "fixed": {**FIXED, "data.train_per_class": 12, "data.test_per_class": 4},
    "search": {
        name: {"optim.lr": {"choices": [0.001, 0.002, 0.004, 0.01]}}
        for name in ("sequential", "sd_lora")
    },
    "sampler": "grid",
    "pruner": {"kind": "none"},
    "trials": 4,
    "seeds": [0, 1],
    "export": "none",
}
TRIALS = 24
# Half of it, whose trials are those of the whole.
HALF: dict[str, Any] = {**STUDY, "grid": {**STUDY["grid"], "data.tasks": [2]}}
TIMEOUT = 400


def start(output: Path, *options: str, uri: str = "", **streams: Any) -> subprocess.Popen[bytes]:
    """Starts the study in a session of its own, which passes the end of a terminal by."""
    file = output.parent / "outputs.yaml"
    file.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    tracking = {"MLFLOW_TRACKING_URI": uri} if uri else {}
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(file), "--output", str(output), *options],
            stdin=subprocess.DEVNULL,
            cwd=output.parent,
            env={**os.environ, **tracking, "RAY_AUTH_MODE": "disabled"},
            start_new_session=True,
            **streams,
        )
    finally:
        signal.signal(signal.SIGHUP, before)


def wait_for(kind: str, number: int, output: Path, study: subprocess.Popen[bytes]) -> None:
    """Waits until so many records of a kind are there."""
    last = time.monotonic() + TIMEOUT
    while count(output / "ledger.jsonl", kind) < number:
        assert study.poll() is None and time.monotonic() < last
        time.sleep(0.1)


class Terminal:
    """A terminal that shows what is written to `inner`, until it is closed."""

    def __init__(self) -> None:
        self._outer, self.inner = pty.openpty()
        self._gone = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        self._gone.set()
        os.close(self._outer)

    def _read(self) -> None:
        while not self._gone.is_set():
            os.read(self._outer, 65536)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """The records of the study where nothing breaks."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert start(output, stdout=subprocess.DEVNULL).wait(TIMEOUT) == 0
    records = read_ledger(output / "ledger.jsonl")
    assert sum(record["kind"] == "trial" for record in records) == TRIALS
    return records


def test_outputs_that_break_change_no_record(tmp_path: Path, undisturbed: list[Record]) -> None:
    output = tmp_path / "broken"
    server = Server(tmp_path / "server")
    server.folder.mkdir()
    server.start()
    terminal = Terminal()
    study = start(output, uri=server.uri, stdout=terminal.inner, stderr=terminal.inner)
    os.close(terminal.inner)
    wait_for("end", 4, output, study)
    terminal.close()
    wait_for("end", 8, output, study)
    server.kill()
    wait_for("end", 12, output, study)
    # Where the report is to be, there is a file.
    (output / "report").write_text("in the way")
    # There is no report, which alone the exit code tells.
    assert study.wait(TIMEOUT) == 1
    records = read_ledger(output / "ledger.jsonl")
    check_each_once(records, STUDY)
    assert measured(records) == measured(undisturbed)


def test_ctrl_c_beside_tee_ends_each_trial_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    output = tmp_path / "out"
    log = tmp_path / "log"
    # Where tests run in the background of a script, their children pass Ctrl-C by.
    tee = subprocess.Popen(
        ["env", "--default-signal=INT", "tee", str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert tee.stdin is not None
    study = start(output, stdout=tee.stdin, stderr=subprocess.PIPE)
    tee.stdin.close()
    # So that several run.
    wait_for("end", 3, output, study)
    # As a terminal does: to all of the pipe, and to all that the study has started.
    tee.send_signal(signal.SIGINT)
    os.killpg(study.pid, signal.SIGINT)
    _, error = study.communicate(timeout=TIMEOUT)
    assert (study.returncode, tee.wait()) == (130, -signal.SIGINT)
    again = StudyFolder(output).command("--resume").replace("study/run.py", str(SCRIPT))
    lines = error.decode().splitlines()
    assert lines[0].startswith("The terminal takes nothing more (Broken pipe)")
    assert [line for line in lines[1:] if line.endswith(f"Go on with: {again}")] == lines[1:]
    assert "search completed at task" in log.read_text("utf-8")
    assert "Report: " in (output / "console.log").read_text("utf-8")
    records = read_ledger(output / "ledger.jsonl")
    trials = [record["trial"] for record in records if record["kind"] == "trial"]
    ends = [record["trial"] for record in records if record["kind"] == "end"]
    assert len(trials) < TRIALS and sorted(ends) == sorted(trials)
    assert (output / "report" / "report.html").exists()


@pytest.mark.parametrize("stream", ["/dev/full", "head", "terminal"])
def test_a_study_without_a_terminal_is_whole_and_has_the_same_winners(
    tmp_path: Path, undisturbed: list[Record], stream: str
) -> None:
    terminal = Terminal() if stream == "terminal" else None
    if terminal is not None:
        pipe = terminal.inner
    elif stream == "head":
        end, pipe = os.pipe()
        os.close(end)
    else:
        pipe = os.open(stream, os.O_WRONLY)
    output = tmp_path / "out"
    study = start(output, "--set", "data.tasks=[2]", stdout=pipe, stderr=subprocess.PIPE)
    os.close(pipe)
    if terminal is not None:
        wait_for("trial", 1, output, study)
        terminal.close()
    _, error = study.communicate(timeout=TIMEOUT)
    assert study.returncode == 0
    lines = error.decode().splitlines()
    assert len(lines) == 1 and lines[0].startswith("The terminal takes nothing more (")
    records = read_ledger(output / "ledger.jsonl")
    check_each_once(records, HALF)
    # Confirmations of other settings would be other trials.
    found, expected = measured(records), measured(undisturbed)
    assert found == {trial: expected.get(trial) for trial in found}
