"""The command line: what it says, what it returns, and what it leaves behind."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import conduct, engine, run
from study.analysis import report
from study.analysis.entities import StudyRecords
from study.ledger import Record, read_ledger
from study.planning import Plan
from study.rules import MistakeError
from study.spec import StudySpec
from tests.study.small_study import FIXED

STUDY = {
    "name": "small",
    "question": "Does it run?",
    "grid": {"method.name": ["inflora", "sequential"], "data.tasks": [2, 4]},
    "fixed": FIXED,
    "trials": 2,
    "seeds": [0, 1],
}
SCRIPT = Path(run.__file__)


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.name=lora", r"method.name must be one of .* but got 'lora'"),
        ("data.name=cifar", r"data.name must be one of .* but got 'cifar'"),
        ("search={inflora: all, sequential: all, other: all}", "but names 'other'"),
        ("optim.lrr=1", "unknown key of --set 'optim.lrr'"),
        ("method.rank=0", r"method.rank must be in \[1, 16\], but got 0"),
        ("method.rank=17", r"method.rank must be in \[1, 16\], but got 17"),
        ("data.tasks=500", r"data.tasks must be in \[1, 8\] .* but got 500"),
        ("objective=test/accuracy", "objective must not look at test images"),
        ("trials", "--set must have the form key=value"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    study_file: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    arguments = [str(study_file), "--set", "method.name=inflora", "--set", override]
    if override.startswith(("search", "method.name")):
        del arguments[1:3]
    assert run.main([*arguments, "--output", str(study_file.parent / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"error: .*{message}.*\n", err)
    assert not (study_file.parent / "out").exists()


def test_a_missing_file_names_what_comes_along(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["nowhere.yaml"]) == 2
    assert re.search(r"nowhere.yaml: there is no such file.*'quickstart'", capsys.readouterr().err)


@pytest.mark.parametrize("code", [errno.ENAMETOOLONG, errno.EACCES])
def test_a_file_out_of_reach_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def exists(path: Path) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "exists", exists)
    assert run.main(["some.yaml"]) == 2
    assert capsys.readouterr().err == f"error: some.yaml: cannot be read: {os.strerror(code)}.\n"


def test_a_folder_in_use_is_refused(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([str(study_file), "--output", str(study_file.parent)]) == 2
    assert "--output must be a new or an empty folder" in capsys.readouterr().err
    assert run.main([str(study_file), "--output", str(study_file)]) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_validate_describes_the_plan(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([str(study_file), "--validate", "--set", "trials=5"]) == 0
    out = capsys.readouterr().out
    assert "4 cells, up to 20 search trials and 8 confirmation trials" in out
    assert "method.name=sequential,data.tasks=2: searches optim.lr" in out


def test_list_shows_every_study_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "quickstart: " in out and "?" in out


@pytest.mark.parametrize("path", sorted(SCRIPT.parent.glob("specs/*.yaml")), ids=lambda p: p.stem)
def test_every_study_that_comes_along_is_valid(path: Path) -> None:
    spec = StudySpec.load(path)
    assert spec.name == path.stem
    assert run.main([str(path), "--validate"]) == 0
    header = path.read_text(encoding="utf-8")
    assert all(f"# {word}:" in header for word in ("Question", "Command", "Cost"))


@pytest.mark.parametrize("how", ["script", "module", "copy"])
def test_it_runs_in_every_way(how: str, tmp_path: Path) -> None:
    copy = Path(shutil.copy(SCRIPT, tmp_path / "run.py"))
    start = {"script": [str(SCRIPT)], "module": ["-m", "study.run"], "copy": [str(copy)]}[how]
    # A file that would be found first if the script's folder stayed on the path.
    (tmp_path / "yaml.py").write_text("raise RuntimeError", encoding="utf-8")
    where = SCRIPT.parents[1] if how == "module" else tmp_path
    command = [sys.executable, *start, "quickstart", "--validate"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=where, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is valid" in done.stdout


def brought(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `ray submit` runs: a copy of one file, in the head's home."""
    shutil.copy(SCRIPT, folder / "run.py")
    return subprocess.run(
        [sys.executable, "run.py", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        check=False,
    )


def test_a_value_that_a_shell_has_split_is_refused(tmp_path: Path) -> None:
    done = brought(tmp_path, "quickstart", "--validate", "--set", "question=is", "it", "true")
    assert done.returncode == 2
    assert "unknown arguments: it true. Was it a part of a value?" in done.stderr
    assert "ray job submit" in done.stderr


def test_a_study_file_of_the_project_is_found_from_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / "lrcs" / "mine").mkdir(parents=True)
    shutil.copy(
        SCRIPT.parent / "specs" / "quickstart.yaml", tmp_path / "lrcs" / "mine" / "one.yaml"
    )
    done = brought(tmp_path, "mine/one.yaml", "--validate")
    assert done.returncode == 0, done.stderr
    assert "lrcs/mine/one.yaml" in done.stdout


def test_unknown_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["quickstart", "extra"]) == 2
    assert capsys.readouterr().err == "error: unknown arguments: extra. See --help.\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from study import run\n"
        "try: run.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'ray', 'optuna', 'mlflow', 'yaml', 'rich'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


class _NoTracker:
    """A tracker that fails, as one without a server does."""

    failure = "the server is away."

    def __init__(self, output: Path, uri: str) -> None:
        pass

    def close(self, timeout: float) -> bool:
        return False


Outcome = Callable[[str], Any]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Replaces the engine by one that plays a study which ends in the given way."""
    monkeypatch.setattr(conduct, "Tracker", _NoTracker)

    def choose(how: str) -> None:
        def run_study(
            plan: Plan,
            output: Path,
            record: Callable[[Record], None],
            trainable: object,
            stopped: Callable[[], bool],
            past: object = None,
        ) -> bool:
            for cell in plan.cells:
                _play(cell, plan, record, fails=how == "fails" and cell is plan.cells[0])
            if how in ("SIGINT", "SIGTERM"):
                signal.raise_signal(signal.Signals[how])
                assert stopped()
            return not stopped()

        monkeypatch.setattr("study.engine.run_study", run_study)

    return choose


def _play(cell: Any, plan: Plan, record: Callable[[Record], None], fails: bool) -> None:
    if fails:
        record({"kind": "failed_cell", "cell": cell.id, "error": "none of 2 trials"})
        return
    low = {"optim.lr": 1e-4}
    for role, split, seed in (("search", "val", 0), ("confirm", "test", 0), ("confirm", "test", 1)):
        trial = cell.trial(role, low, seed)
        if role == "confirm" and seed == 0:
            search = cell.trial("search", low, 0)
            winner = {"trial": search.id, "searched": low, "value": 0.5}
            objective = plan.spec.metric
            record({"kind": "winner", "cell": cell.id, **winner, "objective": objective})
        start = {"role": role, "params": trial.params, "searched": low, "seed": seed}
        record({"kind": "trial", "trial": trial.id, "cell": cell.id, **start})
        for task in range(1, cell.tasks + 1):
            metrics = {f"{split}/accuracy": 0.5, f"{split}/average_anytime_accuracy": 0.6}
            row = {"metrics": metrics, "accuracy_row": [0.5] * task}
            record({"kind": "task", "trial": trial.id, "task": task, **row})
        record({"kind": "end", "trial": trial.id, "status": "completed", "error": None})


def test_a_study_ends_with_table_report_and_commands(
    study_file: Path, played: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    played("well")
    output = study_file.parent / "out"
    assert run.main([str(study_file), "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "inflora, 2 tasks: confirm completed at task 2/2 test/accuracy 0.5" in out
    assert "guessing reaches 12.5%" in out and "50.0" in out
    assert f"Report: {output / 'report' / 'report.html'}" in out
    assert "Warning: the server is away. Everything is in" in out
    assert "--backend-store-uri" in out and "#/experiments/" in out
    assert "Total time: " in out
    records = read_ledger(output / "ledger.jsonl")
    # Every trial is told the split that the study recorded.
    split = records[0]["data"]["gaussian"]
    trials = [one for one in records if one["kind"] == "trial"]
    assert {one["params"]["data.split_sha256"] for one in trials} == {split}
    kinds = [one["kind"] for one in records]
    assert kinds[:5] == ["study"] + ["cell"] * 4
    assert kinds[-1] == "finished"


def test_a_cluster_storage_takes_the_studies(
    study_file: Path,
    played: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    played("well")
    monkeypatch.setenv("LRCS_STORAGE", "here")
    assert run.main([str(study_file)]) == 2
    assert capsys.readouterr().err == (
        "error: $LRCS_STORAGE must be an absolute path, but got 'here'.\n"
    )
    monkeypatch.setenv("LRCS_STORAGE", str(study_file.parent))
    assert run.main([str(study_file)]) == 0
    (output,) = (study_file.parent / "studies").iterdir()
    assert (output / "ledger.jsonl").exists()
    # Where --resume finds it by its name.
    assert run.main(["--resume", "small"]) == 0


def test_a_cell_without_a_result_is_exit_code_1(
    study_file: Path, played: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    played("fails")
    output = study_file.parent / "out"
    assert run.main([str(study_file), "--output", str(output)]) == 1
    out = capsys.readouterr().out
    assert "no result for method.name=inflora,data.tasks=2:" in out
    assert "no result for method.name=sequential" not in out


@pytest.mark.parametrize(("how", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_study_reports_what_there_is(
    study_file: Path, played: Outcome, capsys: pytest.CaptureFixture[str], how: str, code: int
) -> None:
    played(how)
    output = study_file.parent / "out"
    assert run.main([str(study_file), "--output", str(output)]) == code
    assert (output / "report" / "report.html").exists()
    assert read_ledger(output / "ledger.jsonl")[-1]["status"] == "interrupted"
    assert "Interrupted" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_error_of_the_engine_leaves_records_and_report(
    study_file: Path,
    played: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[BaseException],
) -> None:
    played("well")
    play = engine.run_study

    def run_study(*arguments: Any) -> bool:
        play(*arguments)
        raise kind("of the engine")

    monkeypatch.setattr(engine, "run_study", run_study)
    output = study_file.parent / "out"
    if kind is KeyboardInterrupt:
        assert run.main([str(study_file), "--output", str(output)]) == 130
    else:
        with pytest.raises(kind, match="of the engine"):
            run.main([str(study_file), "--output", str(output)])
    assert read_ledger(output / "ledger.jsonl")[-1]["status"] == "interrupted"
    assert (output / "report" / "report.html").exists()
    assert "Warning: the server is away." in capsys.readouterr().out  # the tracker was closed


def test_too_few_resources_are_a_mistake(
    study_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_study(*arguments: Any) -> bool:
        raise MistakeError("resources.cpu must be at most 2.")

    monkeypatch.setattr(conduct, "Tracker", _NoTracker)
    monkeypatch.setattr(engine, "run_study", run_study)
    assert run.main([str(study_file), "--output", str(study_file.parent / "out")]) == 2
    assert capsys.readouterr().err == "error: resources.cpu must be at most 2.\n"


def test_termination_while_ray_is_starting_is_an_interruption(
    study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        """As Ray: replaces the handler by one that leaves with SystemExit."""
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(conduct, "Tracker", _NoTracker)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before = signal.getsignal(signal.SIGTERM)
    output = study_file.parent / "out"
    assert run.main([str(study_file), "--output", str(output)]) == 143
    assert read_ledger(output / "ledger.jsonl")[-1]["status"] == "interrupted"
    assert (output / "report" / "report.html").exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_report_that_fails_is_named(
    study_file: Path,
    played: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write_study(study: StudyRecords, folder: Path) -> Path:
        raise OSError("the disk is full")

    played("well")
    monkeypatch.setattr(report, "write_study", write_study)
    output = study_file.parent / "out"
    assert run.main([str(study_file), "--output", str(output)]) == 1
    out, err = capsys.readouterr()
    ledger = output / "ledger.jsonl"
    assert err == f"error: no report (OSError: the disk is full). Everything is in {ledger}.\n"
    assert "Warning: the server is away." in out


@pytest.mark.slow
@pytest.mark.parametrize("how", ["whole", "SIGINT", "SIGTERM"])
def test_a_real_study(study_file: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = study_file.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    output = study_file.parent / "out"
    command = [sys.executable, str(SCRIPT), str(study_file), "--output", str(output)]
    if how != "whole":
        command += ["--set", "optim.epochs=200"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if how != "whole":
        _wait_for_trial(output / "ledger.jsonl", process)
        process.send_signal(signal.Signals[how])
    out, _ = process.communicate(timeout=300)
    assert process.returncode == {"whole": 0, "SIGINT": 130, "SIGTERM": 143}[how], out
    assert "Traceback" not in out
    assert "Warning" not in out
    assert (output / "report" / "report.html").exists()
    assert (output / "mlflow.db").exists()
    assert not (home / ".ray" / "auth_token").exists()
    records = read_ledger(output / "ledger.jsonl")
    started = {one["trial"] for one in records if one["kind"] == "trial"}
    ended = [one["trial"] for one in records if one["kind"] == "end"]
    assert sorted(started) == sorted(ended)
    assert str(output) not in _commands()


def _wait_for_trial(ledger: Path, process: subprocess.Popen[str]) -> None:
    """Waits until two trials have been launched and had time to start."""
    while process.poll() is None:
        if ledger.exists() and sum(one["kind"] == "trial" for one in read_ledger(ledger)) >= 2:
            time.sleep(5)
            return
        time.sleep(0.2)


def _commands() -> str:
    """The command lines of all processes."""
    paths = Path("/proc").glob("[0-9]*/cmdline")
    found = []
    for path in paths:
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)
