"""`--once`: one configuration, without Ray."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from study import run
from study.commands import once, session
from study.ledger import read_ledger
from study.planning.plan import load_plan
from tests.study.commands.conftest import Command, WriteStudy
from tests.study.small_study import FIXED
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer

STUDY = {
    "name": "small",
    "question": "Does it run?",
    "grid": {"method.name": ["inflora", "linear_heads"], "data.tasks": [2, 3]},
    "fixed": FIXED,
    "seeds": [4, 5],
}
NARROWED = ["--set", "method.name=linear_heads", "--set", "data.tasks=3"]


@pytest.fixture
def study_file(write_study: WriteStudy, without_mlflow: None) -> Path:
    return write_study(STUDY)


def test_several_cells_are_listed(study_file: Path, output: Path, command: Command) -> None:
    assert command(study_file, "--once", "--output", output) == (
        2,
        "",
        f"error: --once runs one configuration, but {study_file} has 4 cells; narrow it down with "
        f"--set, say --set method.name=inflora:\n"
        "  method.name=inflora,data.tasks=2\n  method.name=inflora,data.tasks=3\n"
        "  method.name=linear_heads,data.tasks=2\n  method.name=linear_heads,data.tasks=3\n",
    )
    assert not output.exists()


def test_one_configuration_is_trained_shown_and_recorded(
    study_file: Path, output: Path, command: Command
) -> None:
    code, said, _ = command(study_file, "--once", *NARROWED, "--output", output)
    out = said.splitlines()
    assert code == 0
    assert out[0].split() == ["task", "val/accuracy", "average", "seconds"]
    records = read_ledger(output / "ledger.jsonl")
    assert [record["kind"] for record in records] == [
        "study", "cell", "trial", "task", "checkpoint", "task", "checkpoint", "task", "checkpoint",
        "end", "finished",
    ]  # fmt: skip
    tasks = [record for record in records if record["kind"] == "task"]
    for line, task in zip(out[1:4], tasks, strict=True):
        number, accuracy, average, _ = line.split()
        assert int(number) == task["task"]
        assert accuracy == f"{task['metrics']['val/accuracy']:.4f}"
        assert average == f"{task['metrics']['val/average_anytime_accuracy']:.4f}"
    assert "Warning: the server is away. Everything is in" in said
    assert f"Records: {output / 'ledger.jsonl'}" in out
    trial, end = records[2], records[-2]
    assert (trial["seed"], trial["role"], trial["tasks"]) == (4, "search", 3)
    assert trial["params"]["data.evaluation"] == "validation"
    assert (end["status"], end["error"], records[-1]["status"]) == ("completed", None, "completed")
    again = SequentialTrainer(TrialConfig.from_params(trial["params"]))
    again.restore(output / "checkpoint")
    assert again.done


def test_what_would_be_searched_has_its_default(study_file: Path) -> None:
    plan = load_plan(study_file, ["method.name=inflora", "data.tasks=2", "search=none"])
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
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    error: Exception,
    reason: str,
) -> None:
    def train_task(self: SequentialTrainer) -> None:
        raise error

    monkeypatch.setattr(SequentialTrainer, "train_task", train_task)
    code, _, err = command(study_file, "--once", *NARROWED, "--output", output)
    assert (code, err) == (1, f"failed: {type(error).__name__}: {str(error).splitlines()[0]}\n")
    end = read_ledger(output / "ledger.jsonl")[-2]
    assert (end["status"], end["reason"]) == ("failed", reason)


def test_an_interruption_ends_after_the_task(
    study_file: Path, output: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    train = SequentialTrainer.train_task

    def train_task(self: SequentialTrainer) -> Any:
        signal.raise_signal(signal.SIGINT)
        return train(self)

    monkeypatch.setattr(SequentialTrainer, "train_task", train_task)
    assert command(study_file, "--once", *NARROWED, "--output", output).code == 130
    records = read_ledger(output / "ledger.jsonl")
    assert sum(record["kind"] == "task" for record in records) == 1
    assert [record["status"] for record in records[-2:]] == ["interrupted", "interrupted"]


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_lost_ledger_is_said_at_once_and_saved(
    study_file: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    is_deleted: bool,
) -> None:
    train = SequentialTrainer.train_task
    monkeypatch.setattr(session, "LOOK_SECONDS", 0.02)
    told: list[str] = []
    monkeypatch.setattr(once, "say", lambda text, error=False: told.append(text))

    def train_task(self: SequentialTrainer) -> Any:
        if self.tasks_seen == 1:
            if is_deleted:
                shutil.rmtree(output)
            else:
                output.rename(output.with_name("elsewhere"))
            end = time.monotonic() + 5
            while not any("this task is the last" in text for text in told):
                assert time.monotonic() < end
                time.sleep(0.01)
        return train(self)

    monkeypatch.setattr(SequentialTrainer, "train_task", train_task)
    assert command(study_file, "--once", *NARROWED, "--output", output).code == 1
    saved = output.with_name("out-saved")
    again = f"Put the folder back, or report them with: python study/run.py --report {saved}"
    assert f"records are saved in {saved}. {again}" in told[-1]
    records = read_ledger(saved / "ledger.jsonl")
    assert [record["task"] for record in records if record["kind"] == "task"] == [1, 2]
    assert [record["status"] for record in records[-2:]] == ["interrupted", "interrupted"]
    # Nothing grows where the study was.
    assert not output.exists()


def test_a_reader_that_goes_away_is_said_and_changes_no_record(
    study_file: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    end, pipe = os.pipe()
    os.close(end)
    monkeypatch.setattr(sys, "stdout", os.fdopen(pipe, "w", buffering=1, encoding="utf-8"))
    assert run.main([str(study_file), "--once", *NARROWED, "--output", str(output)]) == 0
    sys.stdout.close()
    told = "The terminal takes nothing more (Broken pipe): going on without it.\n"
    assert capsys.readouterr().err == told
    records = read_ledger(output / "ledger.jsonl")
    assert [record["task"] for record in records if record["kind"] == "task"] == [1, 2, 3]
    assert [record["status"] for record in records[-2:]] == ["completed", "completed"]
    assert "Records: " in (output / "console.log").read_text("utf-8")


def test_a_file_of_json_has_the_characters_that_it_escapes(
    study_file: Path, output: Path, command: Command
) -> None:
    text = json.dumps({**STUDY, "question": "Does it hold \U0001f600?"})
    study_file.write_text(text, encoding="ascii")
    assert command(study_file, "--validate").code == 0
    assert command(study_file, "--once", *NARROWED, "--output", output).code == 0
    assert read_ledger(output / "ledger.jsonl")[0]["question"] == "Does it hold \U0001f600?"
    study_file.write_text(text.replace(r"\ude00", ""), encoding="ascii")
    code, _, err = command(study_file, "--validate")
    assert code == 2 and "a text must consist of whole characters" in err


@pytest.mark.nightly
@pytest.mark.process
def test_runs_that_start_in_one_second_have_a_folder_each(study_file: Path) -> None:
    code = (
        "import sys, time\n"
        "time.strftime = lambda *_: 'now'\n"
        "from study import run\n"
        "sys.exit(run.main(sys.argv[1:]))\n"
    )
    own = [str(study_file), "--once", *NARROWED, "--set", "tracking=none"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, *own],
            cwd=study_file.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    assert [process.communicate()[1] for process in started] == [b""] * 4
    assert {process.returncode for process in started} == {0}
    found = study_file.parent.glob("results/*/ledger.jsonl")
    ledgers = {path.parent.name: path for path in found if not path.parent.is_symlink()}
    assert ledgers.keys() == {"small-now", "small-now-2", "small-now-3", "small-now-4"}
    for path in ledgers.values():
        kinds = [record["kind"] for record in read_ledger(path)]
        assert kinds.count("study") == kinds.count("finished") == 1


@pytest.mark.process
def test_it_runs_without_ray(study_file: Path, output: Path) -> None:
    blocked = study_file.parent / "blocked"
    blocked.mkdir()
    # The process that writes to MLflow has the same path.
    (blocked / "mlflow.py").write_text("raise ImportError('blocked')", encoding="utf-8")
    code = (
        "import sys\n"
        "sys.modules['ray'] = None\n"
        f"sys.path.insert(0, {str(blocked)!r})\n"
        "from study import run\n"
        f"options = ['--once', *{NARROWED!r}, '--output', {str(output)!r}]\n"
        f"sys.exit(run.main([{str(study_file)!r}, *options]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Warning: MLflow could not take any record" in done.stdout
    assert read_ledger(output / "ledger.jsonl")[-1]["status"] == "completed"
