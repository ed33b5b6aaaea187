"""`results/latest` and `--open`."""

import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from study.commands import open_study
from study.commands.session import open_command
from study.ledger import StudyFolder
from study.tracking import UnusableUiError, ui
from tests.study.commands.conftest import Command


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of a working directory, with the reports of two studies."""
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        folder = StudyFolder(Path("results") / name)
        folder.report.mkdir(parents=True)
        (folder.report / "report.html").touch()
        folder.ledger.touch()
    return Path("results")


def test_the_link_leads_to_the_study_that_was_begun_last(results: Path) -> None:
    first, second = StudyFolder(results / "first"), StudyFolder(results / "second")
    first.mark_latest(new=False)
    assert not (results / "latest").exists() and first.short == results / "first"
    first.mark_latest()
    assert first.short == results / "latest" and open_command(first).endswith(" --open")
    assert StudyFolder.find("latest", [results], "--resume").path == first.path.resolve()
    # Goes on with the same study also where the link leads to another one by then.
    found = StudyFolder.find("results/latest", [results], "--resume")
    second.mark_latest(new=False)
    assert found.path == first.path.resolve() and second.is_latest
    assert first.short == results / "first"
    assert open_command(first).endswith(" --open results/first")
    assert [path.name for path in sorted(results.iterdir())] == ["first", "latest", "second"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_a_person_has_called_latest_stays(results: Path, kind: str) -> None:
    own = results / "latest"
    if kind == "folder":
        own.mkdir()
    elif kind == "file":
        own.write_text("mine", encoding="utf-8")
    else:
        own.symlink_to("../elsewhere")
    before = own.lstat()
    StudyFolder(results / "first").mark_latest()
    assert own.lstat() == before and not StudyFolder(results / "first").is_latest


@pytest.mark.parametrize("screen", [True, False])
def test_page_and_runs_are_opened_where_there_is_a_browser(
    results: Path, command: Command, monkeypatch: pytest.MonkeyPatch, screen: bool
) -> None:
    @contextmanager
    def served(*_: object) -> Iterator[tuple[str, None]]:
        yield "http://127.0.0.1:5000/#/experiments/1", None

    opened: list[str] = []

    def note(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(open_study, "served", served)
    monkeypatch.setattr(webbrowser, "open", note)
    for name in open_study.SCREENS:
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv("DISPLAY", ":0")
    StudyFolder(results / "second").mark_latest()
    code, out, err = command("--open")
    page = (results / "second" / "report" / "report.html").resolve().as_uri()
    assert (code, err) == (0, "")
    assert f"Report: {page}\n" in out and "MLflow: http://127.0.0.1:5000/#/experiments/1\n" in out
    assert opened == ([page, "http://127.0.0.1:5000/#/experiments/1"] if screen else [])
    assert ("open the address in yours" in out) is not screen


def test_without_a_store_or_a_server_it_is_said(
    results: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, out, err = command("--open", results / "first")
    assert code == 0 and "Report: file://" in out
    assert "error" not in err and "MLflow has no records of it; python " in err
    (results / "first" / "mlflow.db").touch()
    monkeypatch.setattr(ui.sys, "executable", "false")
    with (
        pytest.raises(UnusableUiError, match="MLflow's server does not start"),
        ui.served(StudyFolder(results / "first"), lambda: False),
    ):
        raise AssertionError
