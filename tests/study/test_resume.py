"""`study/run.py --resume`: what it finds, refuses, repairs and says."""

import errno
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import conduct, engine, run
from study.extension import check_data, extended_spec
from study.ledger import Ledger, read_ledger
from study.lock import only_one
from study.planning import Plan
from study.provenance import opening_records
from study.storage import is_full, storage_error
from tests.study.small_study import FIXED, small_plan

SCRIPT = Path(run.__file__)
STUDY: dict[str, Any] = {
    "name": "small",
    "question": "Does it go on?",
    "grid": {"method.name": ["sequential"], "data.tasks": [2, 4]},
    "fixed": FIXED,
    "trials": 2,
    "seeds": [0, 1],
}


def begun(folder: Path, **changes: Any) -> Path:
    """A folder with the ledger of a study that was stopped before its first trial."""
    output = folder / "small-1"
    ledger = Ledger(output / "ledger.jsonl")
    for record in opening_records(small_plan(**changes), {}):
        ledger.append(record)
    ledger.close()
    return output


class NoTracker:
    """A tracker without MLflow."""

    failure = None

    def __init__(self, output: Path, uri: str) -> None:
        pass

    def close(self, timeout: float) -> bool:
        return True


@pytest.fixture
def engine_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., bool]], None]:
    """Replaces the engine, and MLflow."""
    monkeypatch.setattr(conduct, "Tracker", NoTracker)
    return lambda play: monkeypatch.setattr(engine, "run_study", play)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.epochs=3", "fixed optim.epochs must stay 1 on --resume, but got 3"),
        ("optim.lr=0.5", "fixed optim.lr must stay 'not given' on --resume, but got 0.5"),
        ("search=none", "search.space must stay 'all' on --resume, but got 'none'"),
        ("sampler=random", "sampler must stay 'tpe' on --resume, but got 'random'"),
        ("pruner={kind: none}", "pruner.kind must stay 'asha' on --resume, but got 'none'"),
        ("objective=val/forgetting", "objective.val/accuracy must stay 'max' on --resume"),
        ("name=other", "name must stay 'small' on --resume, but got 'other'"),
        ("seeds=[1, 0]", r"seeds must begin with 0 and keep \[0, 1\] .* but got \[1, 0\]"),
        ("seeds=[0]", r"seeds must begin with 0 and keep \[0, 1\] .* but got \[0\]"),
        ("data.tasks=[2]", r"grid data.tasks must keep \[2, 4\] .* but got \[2\]"),
        ("data.tasks=8", r"grid data.tasks must keep \[2, 4\] .* but got \[8\]"),
        (
            "data.classes=[4, 8]",
            r"grid must keep its axes .* but got data.classes as well: \[4, 8\]",
        ),
        ("trials=1", "trials must be at least 2 on --resume, as many as were .* but got 1"),
        ("optim.lrr=1", "unknown key of --set 'optim.lrr'"),
    ],
)
def test_what_would_change_the_meaning_of_trials_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    output = begun(tmp_path)
    plan = small_plan()
    ledger = Ledger(output / "ledger.jsonl")
    for rate in (0.001, 0.002):
        trial = plan.cells[0].trial("search", {"optim.lr": rate, "method.rank": 2}, 0)
        about = {"trial": trial.id, "cell": trial.cell, "role": "search", "seed": 0}
        more = {"params": dict(trial.params), "searched": dict(trial.searched)}
        ledger.append({"kind": "trial", **about, **more})
    ledger.close()
    before = (output / "ledger.jsonl").read_bytes()
    assert run.main(["--resume", str(output), "--set", override]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"error: .*ledger.jsonl: .*{message}.*\n", err), err
    assert (output / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "overrides",
    [
        ["trials=20", "budget={wall_hours: 2}", "resources={cpu: 2}", "max_concurrent=3"],
        ["seeds=[0, 1, 5]", "retries=4", "storage=/tmp"],
        ["data.tasks=[2, 4, 8]", "method.name=[sd_lora, inflora, sequential]"],
    ],
)
def test_what_adds_to_a_study_is_taken(tmp_path: Path, overrides: list[str]) -> None:
    records = read_ledger(begun(tmp_path) / "ledger.jsonl")
    spec = extended_spec(records, overrides, "ledger")
    for one in overrides:
        assert spec != extended_spec(records, [other for other in overrides if other != one], "")


def test_the_spec_of_the_last_session_counts(tmp_path: Path) -> None:
    records = read_ledger(begun(tmp_path) / "ledger.jsonl")
    later = extended_spec(records, ["trials=7"], "ledger")
    records.append({"kind": "resumed", "spec": later.to_plain()})
    assert extended_spec(records, [], "ledger").trials == 7


@pytest.mark.parametrize("given", [["small.yaml"], ["--output", "x"], ["--probe"]])
def test_resume_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    what = "a study file" if given == ["small.yaml"] else given[0]
    assert run.main(["--resume", str(begun(tmp_path)), *given]) == 2
    assert f"error: --resume must be given without {what}: " in capsys.readouterr().err


def test_a_name_that_no_study_has_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["--resume", "nothing"]) == 2
    assert re.search(
        r"--resume must name the folder of a study, its ledger.jsonl or the start of the name of "
        rf"a folder in {tmp_path}/results, but got 'nothing'",
        capsys.readouterr().err,
    )


def test_a_folder_without_a_whole_study_record_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"kind": "stu')
    assert run.main(["--resume", str(tmp_path)]) == 2
    assert "was stopped before its first trial; start it anew" in capsys.readouterr().err


def test_other_splits_are_refused_with_both_hashes() -> None:
    records = [{"kind": "study", "data": {"cub200": "aaa", "cars": "ccc"}}]
    check_data(records, {"cub200": "aaa", "new": "nnn"}, "ledger")
    with pytest.raises(ValueError, match=r"split of cub200 .*\(aaa\), but on this machine it is b"):
        check_data(records, {"cub200": "bbb"}, "ledger")


def test_two_drivers_on_one_study_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = begun(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from study.lock import only_one\n"
        "with only_one(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(output)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=SCRIPT.parents[1]
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert run.main(["--resume", str(output)]) == 2
        said = capsys.readouterr().err
        assert f"by one process at a time, but {output} is by process {other.pid} on host " in said
        other.kill()
    # What a killed process leaves is a file, not a lock.
    assert (output / "lock").exists()
    with only_one(output):
        pass


def test_what_was_there_reaches_engine_and_display_and_is_written_once(
    tmp_path: Path, engine_of: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    output = begun(tmp_path, grid={"method.name": ["sequential"]}, fixed={"data.tasks": 2})
    before = read_ledger(output / "ledger.jsonl")
    seen: dict[str, Any] = {}

    def run_study(plan: Plan, output: Path, record: Any, *rest: Any) -> bool:
        seen["kinds"] = [one["kind"] for one in rest[-1].records]
        seen["trials"] = plan.spec.trials
        record({"kind": "failed_cell", "cell": plan.cells[0].id, "error": "none of 9"})
        return True

    engine_of(run_study)
    assert run.main(["--resume", str(output), "--set", "trials=9"]) == 1
    records = read_ledger(output / "ledger.jsonl")
    assert records[: len(before)] == before
    kinds = [one["kind"] for one in records]
    assert kinds == ["study", "cell", "resumed", "failed_cell", "finished"]
    assert records[2]["spec"]["trials"] == seen["trials"] == 9
    assert seen["kinds"] == ["study", "cell", "resumed"]
    assert "none of 9" in capsys.readouterr().out


def test_new_and_changed_cells_are_recorded(tmp_path: Path, engine_of: Callable[..., None]) -> None:
    output = begun(tmp_path)
    engine_of(lambda *arguments: True)
    run.main(["--resume", str(output), "--set", "data.tasks=[2, 4, 8]"])
    run.main(["--resume", str(output), "--set", "seeds=[0, 1, 2]"])
    kinds = [one["kind"] for one in read_ledger(output / "ledger.jsonl")]
    new = ["resumed", *["cell"] * 2, "finished", "resumed", *["cell"] * 6, "finished"]
    assert kinds == ["study", *["cell"] * 4, *new]


def test_an_interruption_says_how_to_go_on(
    tmp_path: Path, engine_of: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run_study(*arguments: Any) -> bool:
        signal.raise_signal(signal.SIGINT)
        return False

    engine_of(run_study)
    output = begun(tmp_path)
    assert run.main(["--resume", str(output)]) == 130
    assert f"Go on with: python study/run.py --resume {output}\n" in capsys.readouterr().out


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
def test_a_ledger_that_cannot_be_written_stops_with_what_to_do(
    tmp_path: Path,
    engine_of: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    def run_study(plan: Plan, output: Path, record: Any, *rest: Any) -> bool:
        monkeypatch.setattr(os, "fsync", refuse)
        record({"kind": "failed_cell", "cell": plan.cells[0].id, "error": "?"})
        raise AssertionError

    engine_of(run_study)
    output = begun(tmp_path)
    assert run.main(["--resume", str(output)]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert re.search(
        rf"error: the study cannot be written: .*{os.strerror(code)}. Free here: [\d.]+ of [\d.]+ "
        rf"GB in {output} \(its folder\), .* go on with: python study/run.py --resume {output}\n",
        said,
    ), said
    assert read_ledger(output / "ledger.jsonl")[-1]["kind"] == "resumed"
    monkeypatch.undo()
    with only_one(output):
        pass


def test_a_real_limit_of_a_file_leaves_whole_lines(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from study.ledger import Ledger; from study.storage import is_full\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "try:\n"
        "    while True: ledger.append({'kind': 'task', 'fill': 'x' * 300})\n"
        "except OSError as error: print(error.errno, is_full(error))\n"
    )
    path = tmp_path / "ledger.jsonl"
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=SCRIPT.parents[1], check=True
    )
    assert done.stdout == f"{errno.EFBIG} True\n"
    assert path.read_bytes().endswith(b"\n")
    assert 12 <= len(read_ledger(path)) <= 16


def test_errors_of_full_storage_are_told_from_others(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    wrapped = RuntimeError("a trial failed")
    wrapped.__cause__ = full
    text = "Traceback (most recent call last):\n  ...\nOSError: No space left on device\n"
    for one in (full, wrapped, RuntimeError(text), RuntimeError("PytorchStreamWriter failed x")):
        assert is_full(one)
    for other in (OSError(errno.ENOENT, "no such file"), ValueError("rank must be 1")):
        assert not is_full(other)
    assert "be written: OSError: No space left on device. Free" in str(
        storage_error(tmp_path, text)
    )


def test_a_study_of_changed_trials_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = begun(tmp_path)
    trial = {"kind": "trial", "trial": "x", "cell": "method.name=inflora,data.tasks=2"}
    searched = {"optim.lr": 0.001, "method.rank": 2}
    more = {"role": "search", "params": {}, "searched": searched, "seed": 0}
    Ledger(output / "ledger.jsonl").append({**trial, **more})
    assert run.main(["--resume", str(output)]) == 2
    assert "would be another one now: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_study_is_stopped_resumed_and_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    file, output = tmp_path / "small.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    process = start(str(file), "--output", str(output))
    while process.poll() is None and not (output / "ledger.jsonl").exists():
        time.sleep(0.1)
    while process.poll() is None and count(output, "task") < 5:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130, out
    assert f"--resume {output}" in out

    out = finish(start("--resume", str(output)))
    check_study(output, trials=2, seeds=2)
    assert "Warning" not in out and "Traceback" not in out, out
    runs = runs_of(output)

    out = finish(start("--resume", str(output), "--set", "trials=3", "--set", "seeds=[0, 1, 2]"))
    check_study(output, trials=3, seeds=3)
    assert "Warning" not in out and "Traceback" not in out, out
    assert set(runs) < set(runs_of(output))
    kinds = Counter(one["kind"] for one in read_ledger(output / "ledger.jsonl"))
    assert (kinds["study"], kinds["resumed"], kinds["finished"]) == (1, 2, 3)


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 0, out
    return out


def count(output: Path, kind: str) -> int:
    return sum(one["kind"] == kind for one in read_ledger(output / "ledger.jsonl"))


def check_study(output: Path, trials: int, seeds: int) -> None:
    """Each trial once, the winners confirmed on all seeds, and a run of MLflow for each."""
    records = read_ledger(output / "ledger.jsonl")
    launched = [one for one in records if one["kind"] == "trial"]
    ended = [
        one["trial"] for one in records if one["kind"] == "end" and one["status"] != "interrupted"
    ]
    assert sorted(one["trial"] for one in launched) == sorted(ended)
    assert len(set(ended)) == len(ended)
    cells = {one["cell"] for one in records if one["kind"] == "cell"}
    for cell in cells:
        winner = [one for one in records if one["kind"] == "winner" and one["cell"] == cell][-1]
        own = [one for one in launched if one["cell"] == cell]
        assert sum(one["role"] == "search" for one in own) == trials
        confirmed = [one for one in own if one["searched"] == winner["searched"]]
        assert sum(one["role"] == "confirm" for one in confirmed) == seeds
    runs = runs_of(output)
    assert set(runs.values()) == {1}
    assert set(runs) == {"study", *cells, *(one["trial"] for one in launched)}


def runs_of(output: Path) -> dict[str, int]:
    """How many runs MLflow has of each item of the study."""
    query = "SELECT value, COUNT(*) FROM tags WHERE key = 'study_item' GROUP BY value"
    with closing(sqlite3.connect(output / "mlflow.db")) as database:
        return dict(database.execute(query).fetchall())
