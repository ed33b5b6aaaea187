"""`--report`: from the ledger alone, for a finished, an interrupted and a running study."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from study.ledger import Record, StudyFolder
from study.ledger.records import VERSION
from study.report import page, rewriting
from tests.study.commands.conftest import Command
from tests.study.histories import ledger_of
from tests.study.report.ledgers import made_up_study


def records() -> list[Record]:
    return made_up_study(methods=("inflora", "sequential"), tasks=(3,), seeds=(0, 1), layers=1)


def written(folder: Path, ledger: list[Record]) -> Path:
    return ledger_of(ledger, folder).parent


def data_of(report: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((report / "report.json").read_text(encoding="utf-8"))
    return data


@pytest.mark.slow
def test_a_study_that_runs_is_reported_where_a_person_asks_for_it(
    tmp_path: Path, output: Path, command: Command
) -> None:
    study = written(tmp_path / "study", records()[:-9])
    with (study / "ledger.jsonl").open("ab") as file:
        file.write(b'{"kind": "task", "tri')  # what the driver is writing just now
    before = (study / "ledger.jsonl").read_bytes()
    with StudyFolder(study).held():
        code, out, _ = command("--report", study, "--output", output)
    assert code == 0
    assert "This study is running: 1 of 2 cells have all results." in out
    missing = "0 of 2 confirmations are completed; still to confirm: seed 0, 1"
    assert f"sequential, 3 tasks: {missing}" in out
    data = data_of(output)
    assert data["status"] == "running"
    assert [cell["cell"] for cell in data["missing"]] == ["method.name=sequential,data.tasks=3"]
    assert "incomplete: running" in (output / "report.html").read_text(encoding="utf-8")
    # Nothing of the study was touched.
    assert (study / "ledger.jsonl").read_bytes() == before
    assert not (study / "report").exists()


@pytest.mark.slow
def test_a_driver_that_was_killed_is_not_reported_as_running(
    tmp_path: Path, command: Command
) -> None:
    study = written(tmp_path / "study", records()[:-9])
    folder = StudyFolder(study)
    with folder.held():
        assert folder.is_held() is True
    # The file stays behind, the lock does not.
    assert folder.is_held() is False
    before = (study / "lock").read_bytes()
    code, out, _ = command("--report", study)
    assert code == 0
    assert "This study is interrupted: 1 of 2 cells have all results." in out
    assert f"ended without a word (killed?). To go on: python study/run.py --resume {study}" in out
    assert f"Report: {study}/report/report.html\n" in out
    assert data_of(study / "report")["status"] == "interrupted"
    assert (study / "lock").read_bytes() == before
    # A ledger that was copied here tells nothing of its driver.
    copied = written(tmp_path / "copied", records()[:-9])
    assert StudyFolder(copied).is_held() is None
    assert "This study is running" in command("--report", copied).out


@pytest.mark.parametrize("kind", ["study", "resumed"])
def test_a_ledger_of_a_newer_version_is_refused_before_anything_else(
    tmp_path: Path, command: Command, kind: str
) -> None:
    ledger = records()
    newer = {**ledger[0], "kind": kind, "version": VERSION + 1}
    # What only the newer release can read follows.
    study = written(tmp_path, [*ledger[: kind == "resumed"], newer, {"kind": "task", "new": 1}])
    for option in ("--report", "--resume"):
        assert command(option, study) == (
            2,
            f"Study: {study}\n",
            f"error: a ledger must be of version {VERSION} at most to be read by this release, but "
            f"{study / 'ledger.jsonl'} has version {VERSION + 1}: it was written by a newer one; "
            f"update this project.\n",
        )
    assert not (study / "report").exists()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves figures out."""
    monkeypatch.setattr(page, "_svg", lambda picture, name: "<svg></svg>")


def contrasts_of(report: Path) -> list[tuple[str, str, float]]:
    return [(own["name"], own["declared"], own["margin"]) for own in data_of(report)["contrasts"]]


def test_contrasts_of_a_file_are_marked_as_declared_after_the_data(
    tmp_path: Path, command: Command, undrawn: None
) -> None:
    study, file = written(tmp_path / "study", records()), tmp_path / "later.yaml"
    file.write_text("contrasts: [sequential vs inflora]\nmargin: 0.5\n", encoding="utf-8")
    assert command("--report", study, "--contrasts", file).code == 0
    before = ("inflora vs sequential, 3 tasks", "before", 1.0)
    after = ("sequential vs inflora, 3 tasks", "after the data", 0.5)
    assert contrasts_of(study / "report") == [before, after]
    html = (study / "report" / "report.html").read_text(encoding="utf-8")
    assert html.count("declared after the data") == 1
    assert command("--report", study).code == 0
    assert contrasts_of(study / "report") == [before]


def test_a_ledger_older_than_contrasts_has_the_default_ones_after_the_data(
    tmp_path: Path, command: Command, undrawn: None
) -> None:
    entries = records()
    old = {key: entries[0][key] for key in entries[0] if key not in ("contrasts", "margin")}
    study = written(tmp_path / "old", [old, *entries[1:]])
    assert command("--report", study).code == 0
    default = ("inflora vs sequential, 3 tasks", "after the data", 1.0)
    assert contrasts_of(study / "report") == [default]
    # A study that declares none has none.
    none = {**old, "contrasts": [], "margin": 1.0, "spec": {**old["spec"], "contrasts": []}}
    study = written(tmp_path / "none", [none, *entries[1:]])
    assert command("--report", study).code == 0
    assert contrasts_of(study / "report") == []


def test_a_file_of_contrasts_with_a_mistake_is_refused_before_anything_is_written(
    tmp_path: Path, command: Command
) -> None:
    study, file = written(tmp_path / "study", records()), tmp_path / "later.yaml"
    for text, message in (
        ("contrasts: [inflora vs sd_lora]", "contrasts, entry 1: first and second must be values"),
        ("contrasts: [inflora vs sequential]\nmargin: 0", "margin must be a number above 0"),
        ("margin: 1", "the key 'contrasts' must be present"),
    ):
        file.write_text(text, encoding="utf-8")
        code, out, err = command("--report", study, "--contrasts", file)
        assert (code, out) == (2, f"Study: {study}\n")
        assert err.startswith(f"error: {file}: {message}")
    nowhere = tmp_path / "nowhere.yaml"
    code, _, err = command("--report", study, "--contrasts", nowhere)
    assert (code, err) == (2, f"error: {nowhere}: cannot be read: No such file or directory.\n")
    assert not (study / "report").exists()


@pytest.mark.slow
def test_what_cannot_be_read_or_written_is_refused(tmp_path: Path, command: Command) -> None:
    study = written(tmp_path / "study", records())
    (tmp_path / "file").write_text("")
    code, _, err = command("--report", study, "--output", tmp_path / "file")
    assert (code, "--output names another one" in err) == (2, True)
    code, _, err = command("--report", tmp_path / "nowhere")
    assert (code, "--report must name the folder of a study" in err) == (2, True)
    broken = written(tmp_path / "broken", records()[:2])
    with (broken / "ledger.jsonl").open("a") as file:
        file.write("no record\n")
    code, _, err = command("--report", broken)
    assert (code, "but line 3 of" in err) == (2, True)


@pytest.mark.slow
def test_names_of_somebody_elses_studies_command_no_terminal(
    tmp_path: Path, command: Command
) -> None:
    folders: list[Path] = []
    for name in ("\x1b[2Jfirst", "a\u202eb [red]x"):
        changed = [
            {**record, "name": name} if record["kind"] == "study" else record
            for record in records()
        ]
        folders.append(written(tmp_path / str(len(folders)), changed))
    code, out, _ = command("--compare", *folders)
    assert code == 0 and "\\x1b[2Jfirst" in out and "a\\u202eb [red]x" in out
    assert not {"\x1b", "\u202e"} & {*out}


@pytest.mark.process
def test_the_page_is_rewritten_while_a_study_runs_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first writing succeeds at once; the second would take a minute, and is ended."""
    script = (
        "import pathlib, sys, time; note = pathlib.Path(sys.argv[1]) / 'written'; "
        "time.sleep(60 if note.exists() else 0); note.touch()"
    )
    command = [sys.executable, "-S", "-c", script, str(tmp_path)]
    monkeypatch.setattr(rewriting, "REWRITE_SECONDS", 0.01)
    monkeypatch.setattr(rewriting, "REST", 0)
    begin = time.monotonic()
    with rewriting.rewritten(lambda: command):
        while not (tmp_path / "written").exists():
            assert time.monotonic() - begin < 50
            time.sleep(0.01)
        time.sleep(0.1)
    assert time.monotonic() - begin < 55
    assert capsys.readouterr() == ("", "")


@pytest.mark.process
def test_a_page_that_cannot_be_rewritten_is_said_once_and_fails_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-S", "-c", "raise SystemExit('no room')"]
    monkeypatch.setattr(rewriting, "REWRITE_SECONDS", 0.01)
    said = ""
    with rewriting.rewritten(lambda: command):
        for _ in range(500):
            said += capsys.readouterr().err
            if said:
                break
            time.sleep(0.1)
        time.sleep(0.2)
    said += capsys.readouterr().err
    assert said == "Writing the page failed (no room): it is written at the end.\n"
