"""How a study ends: what it says, what it returns, and what it leaves behind."""

import errno
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from study import run
from study.analysis.contrasts import Later
from study.commands import main, session
from study.engine import tuner
from study.errors import MistakeError
from study.ledger import (
    Journal,
    Ledger,
    Record,
    StudyFolder,
    StudyRecords,
    read_ledger,
    records,
)
from study.planning.cells import Cell, Plan
from study.report import report
from study.search import PastTrials
from tests.study.commands.conftest import Command, PlayedBy, WriteStudy
from tests.study.small_study import FIXED, records_of

STUDY = {
    "name": "small",
    "question": "Does it run?",
    "grid": {"method.name": ["inflora", "sequential"], "data.tasks": [2, 4]},
    "fixed": FIXED,
    "trials": 2,
    "seeds": [0, 1],
}


@pytest.fixture
def study_file(write_study: WriteStudy) -> Path:
    return write_study(STUDY)


Outcome = Callable[[str], Any]


@pytest.fixture
def played(played_by: PlayedBy) -> Outcome:
    """Replaces the engine by one that plays a study which ends in the given way."""

    def choose(how: str) -> None:
        def run_study(
            plan: Plan,
            folder: StudyFolder,
            journal: Journal,
            past: PastTrials,
            stopped: Callable[[], bool],
        ) -> bool:
            for cell in plan.cells:
                for record in _played(cell, fails=how == "fails" and cell is plan.cells[0]):
                    journal.append(record)
            if how in ("SIGINT", "SIGTERM"):
                signal.raise_signal(signal.Signals[how])
                assert stopped()
            return not stopped()

        played_by(run_study)

    return choose


def _played(cell: Cell, fails: bool) -> Iterator[Record]:
    """A search trial and the confirmations of a cell."""
    if fails:
        yield records.failed_cell(cell.id, "none of 2 trials")
        return
    low = {"optim.lr": 1e-4}
    search = cell.trial("search", low, 0)
    yield from records_of(search, [{"val/accuracy": 0.5}] * cell.tasks)
    yield records.winner(cell.id, search.id, low, 0.5, "val/accuracy", {"val/accuracy": 0.5})
    measured = {"test/accuracy": 0.5, "test/average_anytime_accuracy": 0.6}
    for seed in cell.seeds:
        yield from records_of(cell.trial("confirm", low, seed), [measured] * cell.tasks)


@pytest.mark.slow
def test_a_study_ends_with_table_report_and_commands(
    study_file: Path, output: Path, played: Outcome, command: Command
) -> None:
    played("well")
    code, out, err = command(study_file, "--output", output)
    assert (code, err) == (0, "")
    assert "inflora, 2 tasks: confirm completed at task 2/2 test/accuracy 0.5" in out
    assert "guessing reaches 12.5%" in out and "50.0" in out
    assert f"Report: {output / 'report' / 'report.html'}" in out
    assert "Warning: the server is away. Everything is in" in out
    assert f"MLflow: python study/run.py --open {output}\n" in out
    assert "Total time: " in out
    written = read_ledger(output / "ledger.jsonl")
    # Every trial is told the split that the study recorded.
    split = written[0]["data"]["gaussian"]
    trials = [record for record in written if record["kind"] == "trial"]
    assert {trial["params"]["data.split_sha256"] for trial in trials} == {split}
    kinds = [record["kind"] for record in written]
    assert kinds[:5] == ["study"] + ["cell"] * 4
    assert kinds[-1] == "finished"


@pytest.mark.nightly
@pytest.mark.usefixtures("quick_report")
@pytest.mark.slow
def test_a_study_without_tracking_starts_no_process_of_mlflow(
    study_file: Path,
    output: Path,
    played: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:
    played("well")
    monkeypatch.setattr(session, "Tracker", None)
    code, out, _ = command(study_file, "--set", "tracking=none", "--output", output)
    assert code == 0
    later = f"to bring the study there later: python study/run.py --replay {output}"
    assert f"tracking was off; {later}" in out and "mlflow server" not in out
    code, out, _ = command("--replay", output)
    assert (code, f"records of {output} are in sqlite:" in out) == (0, True)


@pytest.mark.usefixtures("quick_report")
def test_a_cluster_storage_takes_the_studies(
    study_file: Path, played: Outcome, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    played("well")
    monkeypatch.setenv("LRCS_STORAGE", "here")
    expected = "error: $LRCS_STORAGE must be an absolute path, but got 'here'.\n"
    assert command(study_file) == (2, "", expected)
    monkeypatch.setenv("LRCS_STORAGE", str(study_file.parent))
    assert command(study_file).code == 0
    folder, latest = sorted((study_file.parent / "studies").iterdir(), key=Path.is_symlink)
    assert (folder / "ledger.jsonl").exists() and latest.resolve() == folder.resolve()
    # Where --resume finds it by its name.
    assert command("--resume", "small").code == 0


@pytest.mark.usefixtures("quick_report")
def test_a_cell_without_a_result_is_exit_code_1(
    study_file: Path, output: Path, played: Outcome, command: Command
) -> None:
    played("fails")
    code, out, _ = command(study_file, "--output", output)
    assert code == 1
    assert "no result for method.name=inflora,data.tasks=2:" in out
    assert "no result for method.name=sequential" not in out


def check_interrupted(output: Path) -> None:
    """The ledger has an end, and there is a report."""
    assert read_ledger(output / "ledger.jsonl")[-1]["status"] == "interrupted"
    assert (output / "report" / "report.html").exists()


@pytest.mark.usefixtures("quick_report")
@pytest.mark.parametrize(("how", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_study_reports_what_there_is(
    study_file: Path, output: Path, played: Outcome, command: Command, how: str, code: int
) -> None:
    played(how)
    ran = command(study_file, "--output", output)
    assert (ran.code, "Interrupted" in ran.out) == (code, True)
    check_interrupted(output)


@pytest.mark.usefixtures("quick_report")
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_of_the_engine_leaves_records_and_report(
    study_file: Path,
    output: Path,
    played: Outcome,
    played_by: PlayedBy,
    capsys: pytest.CaptureFixture[str],
    kind: type[BaseException],
) -> None:
    played("well")
    play = tuner.run_study

    def run_study(*arguments: Any) -> bool:
        play(*arguments)
        raise kind("of the engine")

    played_by(run_study)
    if kind is KeyboardInterrupt:
        assert run.main([str(study_file), "--output", str(output)]) == 130
    else:
        with pytest.raises(kind, match="of the engine"):
            run.main([str(study_file), "--output", str(output)])
    check_interrupted(output)
    assert "Warning: the server is away." in capsys.readouterr().out  # the tracker was closed


def test_too_few_resources_are_a_mistake(
    study_file: Path, output: Path, played_by: PlayedBy, command: Command
) -> None:
    def run_study(*arguments: Any) -> bool:
        raise MistakeError("resources.cpu must be at most 2.")

    played_by(run_study)
    code, _, err = command(study_file, "--output", output)
    assert (code, err) == (2, "error: resources.cpu must be at most 2.\n")


@pytest.mark.usefixtures("quick_report")
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/tmp/study-ray-x"),
        FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
        MistakeError("/tmp/study-ray-x/lock cannot be written: No space left on device."),
    ],
)
def test_a_place_that_is_full_where_ray_is_to_start_is_one_message(
    study_file: Path, output: Path, played_by: PlayedBy, command: Command, error: Exception
) -> None:
    def run_study(*arguments: Any) -> bool:
        raise error

    played_by(run_study)
    code, _, err = command(study_file, "--output", output)
    assert code == 1
    said = (
        rf"error: the study cannot be written: .*{re.escape(str(error).rstrip('.'))}\. Free here: "
    )
    assert re.fullmatch(rf"{said}.* go on with: .*--resume {output}\n", err)
    check_interrupted(output)


def test_a_full_disk_is_said_once_though_there_is_no_report(
    study_file: Path,
    output: Path,
    played_by: PlayedBy,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*arguments: Any) -> Any:
        raise full

    played_by(refuse)
    monkeypatch.setattr(report, "write_study", refuse)
    code, out, err = command(study_file, "--output", output)
    assert (code, err.count("\n"), "Warning" in out) == (1, 1, False)
    # Not even its first record can be written.
    monkeypatch.setattr(Ledger, "append", refuse)
    code, out, err = command(study_file, "--output", output.with_name("other"))
    assert (code, err.count("\n"), "Report" in out) == (1, 1, False)
    assert f"start it again, with the same --output if you like: {output.parent}/other" in err
    monkeypatch.undo()
    assert StudyFolder(output.with_name("other")).is_unused()


def test_a_user_whom_nobody_knows_is_told_that_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    def refuse() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/study-home-x")

    monkeypatch.setattr(main, "ensure_home", refuse)
    code, out, err = command("--list")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: nothing more can be written \(.*'/tmp/study-home-x'\): .*\n", err)


@pytest.mark.usefixtures("quick_report")
def test_where_nothing_can_be_said_a_file_and_the_report_have_it(
    study_file: Path, output: Path, played: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    played("SIGINT")
    for name in ("stdout", "stderr"):
        stream = open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123, SIM115
        monkeypatch.setattr(sys, name, stream)
    assert run.main([str(study_file), "--output", str(output)]) == 130
    sys.stdout.close()
    sys.stderr.close()
    said = (output / "console.log").read_text("utf-8")
    again = StudyFolder(output).command("--resume")
    assert f"Interrupted: the report shows what there is. Go on with: {again}\n" in said
    assert "The terminal takes nothing more (No space left on device)" in said
    assert "inflora, 2 tasks: confirm completed at task 2/2" in said
    (warning,) = [r for r in read_ledger(output / "ledger.jsonl") if r["kind"] == "warning"]
    assert warning["text"].startswith("Neither standard output nor standard error took anything")


@pytest.mark.usefixtures("quick_report")
@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_study_that_lost_its_folder_saves_its_records(
    study_file: Path,
    output: Path,
    played_by: PlayedBy,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    is_deleted: bool,
) -> None:
    def run_study(plan: Plan, folder: StudyFolder, journal: Journal, *rest: Any) -> bool:
        if is_deleted:
            shutil.rmtree(folder.path)
        else:
            folder.path.rename(folder.path.with_name("elsewhere"))
        journal.append(records.failed_cell(plan.cells[0].id, "?"))
        return False

    played_by(run_study)
    # Beside the study there is room for a folder, but not for a file.
    save, full = Ledger.save, OSError(errno.ENOSPC, "No space left on device")

    def save_elsewhere(ledger: Ledger, path: Path) -> None:
        if path.parent.parent == output.parent:
            path.touch()
            raise full
        save(ledger, path)

    monkeypatch.setattr(Ledger, "save", save_elsewhere)
    (here := output.with_name("here")).mkdir()
    monkeypatch.chdir(here)
    code, out, err = command(study_file, "--output", output)
    saved = here / "out-saved"
    assert code == 1 and f"records are saved in {saved}. Put the folder back, or go on with" in err
    assert not output.with_name("out-saved").exists() and not output.exists()
    kinds = [record["kind"] for record in read_ledger(saved / "ledger.jsonl")]
    assert kinds[-2:] == ["failed_cell", "finished"]
    assert "\nReport: out-saved/report/report.html\n" in out


@pytest.mark.usefixtures("quick_report", "without_mlflow")
def test_termination_while_ray_is_starting_is_an_interruption(
    study_file: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        """As Ray: replaces the handler by one that leaves with SystemExit."""
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before = signal.getsignal(signal.SIGTERM)
    assert run.main([str(study_file), "--output", str(output)]) == 143
    check_interrupted(output)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_report_that_fails_is_named(
    study_file: Path,
    output: Path,
    played: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:
    def write_study(study: StudyRecords, folder: Path, later: Later | None) -> Path:
        raise OSError("the disk is full")

    played("well")
    monkeypatch.setattr(report, "write_study", write_study)
    code, out, err = command(study_file, "--output", output)
    ledger = output / "ledger.jsonl"
    assert err == (
        f"Writing the report (everything is in {ledger}) failed (OSError: the disk is full): going "
        "on without it.\n"
    )
    assert (code, "Warning: the server is away." in out) == (1, True)
