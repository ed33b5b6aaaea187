"""Of a study whose outputs break, the ledger is that of one that nobody disturbs."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import run
from study.ledger import StudyFolder, read_ledger
from tests.study.engine.each_once import check_each_once, measured
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
TIMEOUT = 400
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts the study in a session of its own."""
    file = tmp_path / "outputs.yaml"
    file.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")

    def started(output: Path, uri: str = "", **streams: Any) -> subprocess.Popen[bytes]:
        tracking = {"MLFLOW_TRACKING_URI": uri} if uri else {}
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(file), "--output", str(output)],
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env={**os.environ, **tracking, "RAY_AUTH_MODE": "disabled"},
            start_new_session=True,
            **streams,
        )

    return started


def wait_for_ends(ledger: Path, ends: int, study: subprocess.Popen[bytes]) -> None:
    """Waits until so many trials have ended."""
    last = time.monotonic() + TIMEOUT
    while not ledger.exists() or ledger.read_bytes().count(b'"kind": "end"') < ends:
        assert study.poll() is None and time.monotonic() < last
        time.sleep(0.1)


def test_outputs_that_break_change_no_record(tmp_path: Path, start: Start) -> None:
    quiet = tmp_path / "quiet"
    study = start(quiet, stdout=subprocess.DEVNULL)
    assert study.wait(TIMEOUT) == 0
    expected = read_ledger(quiet / "ledger.jsonl")
    assert sum(record["kind"] == "trial" for record in expected) == TRIALS

    output = tmp_path / "broken"
    server = Server(tmp_path / "server")
    server.folder.mkdir()
    server.start()
    terminal, inner = pty.openpty()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        study = start(output, server.uri, stdout=inner, stderr=inner)
    finally:
        signal.signal(signal.SIGHUP, before)
    os.close(inner)
    gone = threading.Event()

    def read() -> None:
        while not gone.is_set():
            os.read(terminal, 65536)

    threading.Thread(target=read, daemon=True).start()
    wait_for_ends(output / "ledger.jsonl", 4, study)
    gone.set()
    os.close(terminal)
    wait_for_ends(output / "ledger.jsonl", 8, study)
    server.kill()
    wait_for_ends(output / "ledger.jsonl", 12, study)
    # Where the report is to be, there is a file.
    (output / "report").write_text("in the way")
    # There is no report, which alone the exit code tells.
    assert study.wait(TIMEOUT) == 1
    records = read_ledger(output / "ledger.jsonl")
    check_each_once(records, STUDY)
    assert measured(records) == measured(expected)


def test_ctrl_c_beside_tee_ends_each_trial_once_and_says_how_to_go_on(
    tmp_path: Path, start: Start
) -> None:
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
    wait_for_ends(output / "ledger.jsonl", 3, study)
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


@pytest.mark.parametrize("stream", ["/dev/full", "head"])
def test_a_study_without_a_terminal_is_whole(tmp_path: Path, start: Start, stream: str) -> None:
    if stream == "head":
        end, pipe = os.pipe()
        os.close(end)
    else:
        pipe = os.open(stream, os.O_WRONLY)
    study = start(tmp_path / "out", stdout=pipe, stderr=subprocess.PIPE)
    os.close(pipe)
    _, error = study.communicate(timeout=TIMEOUT)
    assert study.returncode == 0
    lines = error.decode().splitlines()
    assert len(lines) == 1 and lines[0].startswith("The terminal takes nothing more (")
    check_each_once(read_ledger(tmp_path / "out" / "ledger.jsonl"), STUDY)
