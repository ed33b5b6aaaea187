"""What the tests of the command line share: a study file, and a study without Ray and MLflow."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import yaml

from study import run
from study.analysis.contrasts import Later
from study.commands import recorded, session
from study.engine import tuner
from study.ledger import StudyRecords
from study.report import report

PlayedBy = Callable[[Callable[..., bool]], None]
WriteStudy = Callable[[Mapping[str, Any]], Path]


class Ran(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]


# A tracker that fails, as one whose server is away does.
NO_TRACKER = SimpleNamespace(experiment="7", failure="the server is away.", close=lambda _: False)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs study/run.py with these arguments, in this process."""
    return lambda *arguments: Ran(run.main(list(map(str, arguments))), *capsys.readouterr())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The folder of a study that is not there yet."""
    return tmp_path / "out"


@pytest.fixture
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions whose tracker fails."""
    monkeypatch.setattr(session, "Tracker", lambda folder, uri: NO_TRACKER)


@pytest.fixture
def played_by(monkeypatch: pytest.MonkeyPatch, without_mlflow: None) -> PlayedBy:
    """Replaces the tuner by a function of the same arguments, and MLflow by nothing."""
    return lambda play: monkeypatch.setattr(tuner, "run_study", play)


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that is an empty page: drawing takes the better part of a second."""

    def write_study(study: StudyRecords, folder: Path, later: Later | None) -> Path:
        folder.mkdir(exist_ok=True)
        (page := folder / "report.html").touch()
        return page

    monkeypatch.setattr(report, "write_study", write_study)
    # It is bound there already: a test that imports it first must not leave the empty page behind.
    monkeypatch.setattr(recorded, "write_study", write_study)


@pytest.fixture
def write_study(tmp_path: Path) -> WriteStudy:
    """Writes the file of a study."""

    def write(study: Mapping[str, Any]) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(dict(study), sort_keys=False), encoding="utf-8")
        return path

    return write
