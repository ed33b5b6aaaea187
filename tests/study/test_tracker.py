"""The process that writes beside a study, and a server that is killed under both."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from study.ledger import read_ledger
from study.ledger_writer import replay
from study.tracker import Tracker
from tests.study.mlflow_server import Server, counted, expected
from tests.study.small_study import FIXED


def test_other_words_of_the_writer_process_are_passed_over(tmp_path: Path) -> None:
    class Talking(Tracker):
        """Reads fixed lines."""

        def __init__(self) -> None:
            self.failure, self._told = None, False
            lines = ["a warning\n", "3\n", '{"failure": "lost"}\n']
            self._process = SimpleNamespace(stdout=lines)  # type: ignore[assignment]

    tracker = Talking()
    tracker._read()
    assert (tracker._told, tracker.failure) == (True, "lost")


DRIVER = """
import sys
import trainables.ray_trainable
from tests.study.fake_trainable import FakeTrainable
trainables.ray_trainable.ContinualTrainable = FakeTrainable
from study import run
sys.exit(run.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_server_that_is_killed_under_a_real_study_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real driver, Ray, four trials at a time; they only pretend to train."""
    server = Server(tmp_path)
    output = tmp_path / "out"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("FAKE_TRAINABLE_MARKS", str(tmp_path))
    study = ["quickstart", "--set", "grid={method.name: [inflora]}", "--set", "search=all"]
    changes = {
        **{key: value for key, value in FIXED.items() if key != "data.classes"},
        "data.classes": 40,
        "data.tasks": 20,
        "optim.optimizer": "sgd",
        "optim.weight_decay": 0.3,  # seconds a task takes
    }
    fixed = ", ".join(f"{key}: {_yaml(value)}" for key, value in changes.items())
    study += ["--set", f"fixed={{{fixed}}}", "--set", "pruner={kind: none}", "--set", "trials=4"]
    study += ["--set", "seeds=[0, 1]", "--set", "resources={cpu: 0.5}", "--set", "export=none"]
    command = [sys.executable, "-c", DRIVER, *study, "--output", str(output)]
    server.start()
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        ledger = output / "ledger.jsonl"
        _wait(lambda: _tasks(ledger) >= 20 and _runs(server) >= 4, driver)
        server.kill()
        _wait(lambda: _tasks(ledger) >= 60, driver)
        server.start()
        out, _ = driver.communicate(timeout=120)
        assert driver.returncode == 0, out
        assert out.count("MLflow cannot be reached") == 1
        assert "--replay" not in out
        records = read_ledger(ledger)
        launched = {one["trial"]: at for at, one in enumerate(records) if one["kind"] == "trial"}
        ended = {one["trial"]: at for at, one in enumerate(records) if one["kind"] == "end"}
        assert max(_alive(at, launched, ended) for at in range(len(records))) == 4
        found = counted(server.database)
        assert found == expected(records)
        assert len(found[1]) == (4 + 2) * 20 * 2
        assert replay(output, server.uri) == (len(records), None)
        assert counted(server.database) == found
    finally:
        driver.kill()
        driver.wait()
        server.kill()


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _alive(at: int, launched: dict[str, int], ended: dict[str, int]) -> int:
    return sum(start <= at < ended[trial] for trial, start in launched.items())


def _tasks(ledger: Path) -> int:
    return ledger.read_text(encoding="utf-8").count('"kind": "task"') if ledger.exists() else 0


def _runs(server: Server) -> int:
    return sum(counted(server.database)[0].values()) if server.database.exists() else 0


def _wait(until: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        assert driver.poll() is None, driver.communicate()[0]
        if until():
            return
        time.sleep(0.1)
    raise TimeoutError("the study must come so far within two minutes.")
