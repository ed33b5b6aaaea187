"""`--once`: one configuration, without Ray."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from study import once, run
from study.ledger import read_ledger
from study.planning import make_plan
from study.spec import StudySpec
from tests.study.small_study import FIXED
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer

STUDY = {
    "name": "small",
    "question": "Does it run?",
    "grid": {"method.name": ["inflora", "linear_heads"], "data.tasks": [2, 3]},
    "fixed": {**FIXED, "method.rank": 3},
    "seeds": [4, 5],
}
ONE = ["--set", "method.name=linear_heads", "--set", "data.tasks=3"]


class _Tracker:
    """No MLflow."""

    failure = "the server is away."

    def __init__(self, output: Path, uri: str) -> None:
        pass

    def close(self, timeout: float) -> bool:
        return False


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(once, "Tracker", _Tracker)
    path = tmp_path / "small.yaml"
    plain = {**STUDY, "fixed": dict(FIXED)}
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return path


def test_several_cells_are_listed(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = study_file.parent / "out"
    assert run.main([str(study_file), "--once", "--output", str(output)]) == 2
    assert capsys.readouterr().err == (
        f"error: --once runs one configuration, but {study_file} has 4 cells; narrow it down with "
        f"--set, say --set method.name=inflora:\n"
        "  method.name=inflora,data.tasks=2\n  method.name=inflora,data.tasks=3\n"
        "  method.name=linear_heads,data.tasks=2\n  method.name=linear_heads,data.tasks=3\n"
    )
    assert not output.exists()


def test_one_configuration_is_trained_shown_and_recorded(
    study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = study_file.parent / "out"
    assert run.main([str(study_file), "--once", *ONE, "--output", str(output)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["task", "val/accuracy", "average", "seconds"]
    records = read_ledger(output / "ledger.jsonl")
    assert [one["kind"] for one in records] == [
        "study", "cell", "trial", "task", "checkpoint", "task", "checkpoint", "task", "checkpoint",
        "end", "finished",
    ]  # fmt: skip
    for line, task in zip(out[1:4], [one for one in records if one["kind"] == "task"], strict=True):
        number, accuracy, average, _ = line.split()
        assert int(number) == task["task"]
        assert accuracy == f"{task['metrics']['val/accuracy']:.4f}"
        assert average == f"{task['metrics']['val/average_anytime_accuracy']:.4f}"
    assert "Warning: the server is away. Everything is in" in "\n".join(out)
    assert f"Records: {output / 'ledger.jsonl'}" in out
    trial, end = records[2], records[-2]
    assert (trial["seed"], trial["role"], trial["tasks"]) == (4, "search", 3)
    assert trial["params"]["data.evaluation"] == "validation"
    assert (end["status"], end["error"], records[-1]["status"]) == ("completed", None, "completed")
    again = SequentialTrainer(TrialConfig.from_params(trial["params"]))
    again.restore(output / "checkpoint")
    assert again.done


def test_what_would_be_searched_has_its_default(study_file: Path) -> None:
    overrides = ["method.name=inflora", "data.tasks=2", "search=none"]
    plan = make_plan(StudySpec.load(study_file, overrides))
    trial = once.single_trial(plan)
    assert (trial.params["method.rank"], trial.searched) == (10, {})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FloatingPointError("the training loss must be finite.\nmore"), "diverged"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out_of_memory"),
    ],
)
def test_a_failure_is_one_line_and_exit_code_1(
    study_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    reason: str,
) -> None:
    def train_task(self: SequentialTrainer) -> None:
        raise error

    monkeypatch.setattr(SequentialTrainer, "train_task", train_task)
    output = study_file.parent / "out"
    assert run.main([str(study_file), "--once", *ONE, "--output", str(output)]) == 1
    first = str(error).splitlines()[0]
    assert capsys.readouterr().err == f"failed: {type(error).__name__}: {first}\n"
    end = read_ledger(output / "ledger.jsonl")[-2]
    assert (end["status"], end["reason"]) == ("failed", reason)


def test_an_interruption_ends_after_the_task(
    study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = SequentialTrainer.train_task

    def train_task(self: SequentialTrainer) -> Any:
        signal.raise_signal(signal.SIGINT)
        return train(self)

    monkeypatch.setattr(SequentialTrainer, "train_task", train_task)
    output = study_file.parent / "out"
    assert run.main([str(study_file), "--once", *ONE, "--output", str(output)]) == 130
    records = read_ledger(output / "ledger.jsonl")
    assert sum(one["kind"] == "task" for one in records) == 1
    assert [one["status"] for one in records[-2:]] == ["interrupted", "interrupted"]


def test_it_runs_without_ray(study_file: Path) -> None:
    output = study_file.parent / "out"
    blocked = study_file.parent / "blocked"
    blocked.mkdir()
    # The process that writes to MLflow has the same path.
    (blocked / "mlflow.py").write_text("raise ImportError('blocked')", encoding="utf-8")
    code = (
        "import sys\n"
        "sys.modules['ray'] = None\n"
        f"sys.path.insert(0, {str(blocked)!r})\n"
        "from study import run\n"
        f"options = ['--once', *{ONE!r}, '--output', {str(output)!r}]\n"
        f"sys.exit(run.main([{str(study_file)!r}, *options]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Warning: MLflow could not take any record" in done.stdout
    assert read_ledger(output / "ledger.jsonl")[-1]["status"] == "completed"
