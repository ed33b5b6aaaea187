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
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from study import run
from study.ledger import Journal, StudyFolder, read_ledger, records
from study.planning.cells import Plan
from study.planning.openings import opening_records
from study.search import PastTrials, Start, StudySearch
from tests.study.commands.conftest import Command, PlayedBy, WriteStudy
from tests.study.histories import ledger_of
from tests.study.small_study import FIXED, small_plan

SCRIPT = Path(run.__file__)
STUDY: dict[str, Any] = {
    "name": "small",
    "question": "Does it go on?",
    "grid": {"method.name": ["sequential"], "data.tasks": [4]},
    "fixed": FIXED,
    "trials": 1,
    "seeds": [0],
}


def begun(folder: Path, **changes: Any) -> Path:
    """A folder with the ledger of a study that was stopped before its first trial."""
    return ledger_of(opening_records(small_plan(**changes), {}), folder / "small-1").parent


def test_what_would_change_the_meaning_of_trials_is_refused(
    tmp_path: Path, command: Command
) -> None:
    output = begun(tmp_path)
    before = (output / "ledger.jsonl").read_bytes()
    assert command("--resume", output, "--set", "optim.epochs=3") == (
        2,
        f"Study: {output}\n",
        f"error: {output}/ledger.jsonl: fixed optim.epochs must stay 1 on --resume, but got 3; "
        "what may change is trials, budget, resources, max_concurrent, retries, storage, export, "
        "tracking, and grid and seeds may get further values.\n",
    )
    assert (output / "ledger.jsonl").read_bytes() == before


def test_what_is_no_study_or_runs_already_is_refused(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command("--resume", "nothing")
    rule = "the folder of a study, its ledger.jsonl, or a study or the start of the name of a"
    assert (
        f"--resume must name {rule} folder in {tmp_path}/results, but got 'nothing'" in err
        and code == 2
    )
    (tmp_path / "ledger.jsonl").write_text('{"kind": "stu')
    code, _, err = command("--resume", tmp_path)
    assert (code, "was stopped before its first trial; start it anew" in err) == (2, True)
    output = begun(tmp_path)
    with StudyFolder(output).held():
        code, _, err = command("--resume", output)
    assert code == 2 and f"by one process at a time, but {output} is by process " in err


@pytest.mark.parametrize("way", ["upwards", "absolute", "link"])
def test_a_ledger_that_names_a_checkpoint_elsewhere_is_refused_and_nothing_is_deleted(
    tmp_path: Path, command: Command, way: str
) -> None:
    (victim := tmp_path / "victim").mkdir()
    (victim / "precious.txt").write_text("thesis")
    output = begun(tmp_path)
    trial = small_plan().cells[0].trial("search", {"method.rank": 4}, 0)
    path = {"upwards": "../victim", "absolute": str(victim), "link": "ray/session-1/x"}[way]
    # As if killed before the end of the trial was written.
    ledger_of([trial.record(), records.checkpoint(trial.id, 4, path, {})], output)
    (output / "ray" / "session-1").mkdir(parents=True)
    (output / "ray" / "session-1" / "x").symlink_to(victim)
    code, _, err = command("--resume", output)
    assert (code, f"line 7 of {output}/ledger.jsonl" in err) == (2, True), err
    assert (victim / "precious.txt").read_text() == "thesis"


def test_the_ledger_is_read_once_until_the_first_trial_and_written_on(
    tmp_path: Path,
    played_by: PlayedBy,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:
    output = begun(tmp_path, grid={"method.name": ["sequential"]}, fixed={"data.tasks": 2})
    before = read_ledger(output / "ledger.jsonl")
    opened: list[str] = []
    open_file = Path.open

    def noted(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if path.name == "ledger.jsonl":
            opened.append(mode)
        return open_file(path, mode, *rest, **options)

    def run_study(
        plan: Plan, folder: StudyFolder, journal: Journal, past: PastTrials, *rest: Any
    ) -> bool:
        start = StudySearch(plan, journal, past, lambda: 1).next()
        assert isinstance(start, Start) and plan.spec.trials == 9
        # Read for the history, and opened to be appended to.
        assert opened == ["rb", "ab"]
        assert (len(journal.history.sessions), len(journal.history.cells)) == (2, 1)
        journal.append(records.failed_cell(plan.cells[0].id, "none of 9"))
        return True

    played_by(run_study)
    monkeypatch.setattr(Path, "open", noted)
    code, out, _ = command("--resume", output, "--set", "trials=9")
    assert (code, "none of 9" in out) == (1, True)
    assert opened == ["rb", "ab"]
    written = read_ledger(output / "ledger.jsonl")
    assert written[: len(before)] == before
    kinds = ["study", "cell", "resumed", "trial", "failed_cell", "finished"]
    assert kinds_of(output) == kinds
    assert written[2]["spec"]["trials"] == 9


def test_new_and_changed_cells_are_recorded(tmp_path: Path, played_by: PlayedBy) -> None:
    output = begun(tmp_path)
    played_by(lambda *arguments: True)
    run.main(["--resume", str(output), "--set", "data.tasks=[2, 4, 8]"])
    run.main(["--resume", str(output), "--set", "seeds=[0, 1, 2]"])
    new = ["resumed", *["cell"] * 2, "finished", "resumed", *["cell"] * 6, "finished"]
    assert kinds_of(output) == ["study", *["cell"] * 4, *new]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_says_how_to_go_on(
    tmp_path: Path, played_by: PlayedBy, command: Command, by: signal.Signals
) -> None:
    def run_study(*arguments: Any) -> bool:
        signal.raise_signal(by)
        return False

    played_by(run_study)
    output = begun(tmp_path)
    code, out, _ = command("--resume", output)
    assert code == 128 + by and f"Go on with: python study/run.py --resume {output}\n" in out


def test_a_ledger_that_cannot_be_written_stops_with_what_to_do(
    tmp_path: Path, played_by: PlayedBy, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    full = os.strerror(errno.ENOSPC)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, full)

    def run_study(plan: Plan, folder: StudyFolder, journal: Journal, *rest: Any) -> bool:
        monkeypatch.setattr(os, "fsync", refuse)
        journal.append(records.failed_cell(plan.cells[0].id, "?"))
        raise AssertionError

    played_by(run_study)
    output = begun(tmp_path)
    code, _, said = command("--resume", output)
    assert (code, "Traceback" in said) == (1, False)
    assert re.search(
        rf"error: the study cannot be written: .*{full}. Free here: [\d.]+ of [\d.]+ "
        rf"GB in {output} \(its folder\), .* go on with: python study/run.py --resume {output}\n",
        said,
    ), said
    assert read_ledger(output / "ledger.jsonl")[-1]["kind"] == "resumed"
    monkeypatch.undo()
    assert StudyFolder(output).is_held() is False


@pytest.mark.process
def test_a_real_study_is_killed_resumed_extended_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_study: WriteStudy
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    file, output = write_study(STUDY), tmp_path / "out"
    more = ["--set", "trials=2", "--set", "seeds=[0, 1]"]
    process = start(str(file), "--output", str(output))
    wait_for_tasks(process, output, 2)
    while not (trials := trials_of(home)) and process.poll() is None:
        time.sleep(0.02)
    for victim in (process.pid, *trials):
        os.kill(victim, signal.SIGKILL)
    process.communicate()
    assert trials and "finished" not in kinds_of(output)
    # At once: what is left of the killed session must not matter.
    process = start("--resume", str(output), *more)
    wait_for_tasks(process, output, 5)
    process.send_signal(signal.SIGINT)
    assert f"--resume {output}" in finish(process, 130)
    ledger = read_ledger(output / "ledger.jsonl")
    launched = {record["trial"] for record in ledger if record["kind"] == "trial"}
    assert launched == {record["trial"] for record in ledger if record["kind"] == "end"}
    before = runs_of(output)
    finish(start("--resume", str(output)), 0)
    check_study(output, trials=2, seeds=2)
    assert set(before) <= set(runs_of(output))
    kinds = Counter(kinds_of(output))
    assert (kinds["study"], kinds["resumed"], kinds["finished"]) == (1, 2, 2)
    assert (output / "report" / "report.html").exists()
    # Nothing of it is left, no token of Ray's and no process.
    assert not (home / ".ray" / "auth_token").exists()
    assert str(output) not in command_lines()


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_tasks(process: subprocess.Popen[str], output: Path, more: int) -> None:
    """Waits until a session has seen so many tasks."""
    before = kinds_of(output).count("task")
    while process.poll() is None and kinds_of(output).count("task") < before + more:
        time.sleep(0.1)


def trials_of(home: Path) -> list[int]:
    """The processes of trials whose driver has this home."""
    own, found = f"HOME={home}\0".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            trial = b"Trainable" in (folder / "cmdline").read_bytes()
            if trial and own in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def finish(process: subprocess.Popen[str], code: int) -> str:
    out, _ = process.communicate(timeout=180)
    assert process.returncode == code, out
    assert "Warning" not in out and "Traceback" not in out, out
    return out


def kinds_of(output: Path) -> list[str]:
    """The kinds of all records of a study; none before it has begun."""
    ledger = output / "ledger.jsonl"
    return [record["kind"] for record in read_ledger(ledger)] if ledger.exists() else []


def command_lines() -> str:
    """Of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(lines)


def check_study(output: Path, trials: int, seeds: int) -> None:
    """Each trial once, the winners confirmed on all seeds, and a run of MLflow for each."""
    ledger = read_ledger(output / "ledger.jsonl")
    launched = [record for record in ledger if record["kind"] == "trial"]
    ends = [record for record in ledger if record["kind"] == "end"]
    ended = [end["trial"] for end in ends if end["status"] != "interrupted"]
    assert sorted(trial["trial"] for trial in launched) == sorted(ended)
    assert len(set(ended)) == len(ended)
    cells = {record["cell"] for record in ledger if record["kind"] == "cell"}
    # Of several winners of a cell the last one counts.
    winners = {record["cell"]: record for record in ledger if record["kind"] == "winner"}
    for cell in cells:
        own = [trial for trial in launched if trial["cell"] == cell]
        assert sum(trial["role"] == "search" for trial in own) == trials
        confirmed = [trial for trial in own if trial["searched"] == winners[cell]["searched"]]
        assert sum(trial["role"] == "confirm" for trial in confirmed) == seeds
    runs = runs_of(output)
    assert set(runs.values()) == {1}
    assert set(runs) == {"study", *cells, *(trial["trial"] for trial in launched)}


def runs_of(output: Path) -> dict[str, int]:
    """How many runs MLflow has of each item of the study."""
    query = "SELECT value, COUNT(*) FROM tags WHERE key = 'study_item' GROUP BY value"
    with closing(sqlite3.connect(output / "mlflow.db")) as database:
        return dict(database.execute(query).fetchall())
