"""A real study of four trials at a time whose MLflow server is killed under it."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest

from study.ledger import Record, StudyFolder, read_ledger
from study.tracking.writer import replay
from tests.study.small_study import FIXED
from tests.study.tracking.mlflow_server import Server, expected

DRIVER = """
import sys
import trainables.ray_trainable
from tests.study.fake_trainable import FakeTrainable
trainables.ray_trainable.ContinualTrainable = FakeTrainable
from study import run
sys.exit(run.main(sys.argv[1:]))
"""
TRIALS, TASKS = 4 + 2, 10


def run_struck(
    server: Server,
    count: Callable[[], tuple[Counter[str], Counter[tuple[str, str, int]]]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kills: int = 1,
) -> Path:
    """Runs a study below `folder`, whose server is killed and started again so often.

    `count` counts what the server's database holds: every record must be there once in the end,
    and still once when all are written again. Returns the study's folder. The trials only pretend
    to train.
    """
    output = folder / "out"
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("FAKE_TRAINABLE_MARKS", str(folder))
    study = ["quickstart", "--set", "grid={method.name: [inflora]}", "--set", "search=all"]
    # The decay is the seconds that a task takes: on a busy machine a server starts for thirty.
    changes = {"data.classes": 20, "data.tasks": TASKS, "optim.weight_decay": 2.0}
    fixed = json.dumps({**FIXED, **changes, "optim.optimizer": "sgd"})
    study += ["--set", f"fixed={fixed}", "--set", "pruner={kind: none}", "--set", "trials=4"]
    study += ["--set", "settings={}", "--set", "contrasts=none"]
    study += ["--set", "seeds=[0, 1]", "--set", "resources={cpu: 0.5}", "--set", "export=none"]
    command = [sys.executable, "-c", DRIVER, *study, "--output", str(output)]
    server.start()
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        ledger = output / "ledger.jsonl"
        for kill in range(kills):
            _wait(lambda: count()[0].total() >= 4, driver)
            _wait_for(ledger, 20 * kill + 10, driver)
            server.kill()
            _wait_for(ledger, 20 * kill + 20, driver)
            server.start()
        out, _ = driver.communicate(timeout=180)
        assert driver.returncode == 0, out
        assert out.count("MLflow cannot be reached") == 1
        assert "--replay" not in out
        assert f"then open {server.uri}/#/experiments/1/runs?" in out
        records = read_ledger(ledger)
        assert _most_at_a_time(records) == 4
        tracked = count()
        assert tracked == expected(records)
        # Search trials are not evaluated after every task.
        assert len(tracked[1]) >= TRIALS * TASKS
        assert replay(StudyFolder(output), server.uri) == (len(records), None)
        assert count() == tracked
    finally:
        driver.kill()
        driver.wait()
    return output


def _most_at_a_time(records: list[Record]) -> int:
    steps = {"trial": 1, "end": -1}
    return max(accumulate(steps.get(record["kind"], 0) for record in records))


def _wait_for(ledger: Path, tasks: int, driver: subprocess.Popen[str]) -> None:
    """Waits until so many tasks are recorded."""
    _wait(lambda: ledger.read_text("utf-8").count('"kind": "task"') >= tasks, driver)


def _wait(until: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        assert driver.poll() is None, driver.communicate()[0]
        if until():
            return
        time.sleep(0.1)
    raise TimeoutError("the study must come so far within two minutes.")
