"""What a study says of its data: known at its start, or once its trials have decoded the images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.commands import once
from study.ledger import Journal, StudyFolder, read_history
from study.planning import Plan
from study.planning.data import prepare_all
from study.search import PastTrials
from tests.study.commands.conftest import Command, PlayedBy, WriteStudy
from tests.study.small_study import FIXED

LEAKS = "folder:mine: 4 of 4 test images are training images, too (4 of them byte for byte), such"
PASSED = "folder:mine: 2 files were passed over inside class folders: 1 .txt (such as train/a/li"


@pytest.fixture
def study_file(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of two classes whose test images are trained on, with two other files."""
    for label in range(2):
        for part, count in (("train", 4), ("test", 2)):
            folder = tmp_path / "data" / "mine" / part / "ab"[label]
            folder.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng(10 * label + number)
                pixels = rng.integers(0, 255, (9, 9), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    for name in (".x.png", "list.txt"):
        (tmp_path / "data" / "mine" / "train" / "a" / name).touch()
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path / "cache"))
    fixed = {key: value for key, value in FIXED.items() if key != "data.classes"}
    data = {"name": "folder:mine", "root": str(tmp_path / "data"), "grey": True, "tasks": 2}
    return write_study(
        {
            "name": "small",
            "question": "Does it hold?",
            "grid": {"method.name": ["nearest_mean"]},
            "fixed": {**fixed, **{f"data.{key}": value for key, value in data.items()}},
            "search": "none",
            "seeds": [0],
        }
    )


def decodes(
    plan: Plan,
    folder: StudyFolder,
    journal: Journal,
    past: PastTrials,
    stopped: Callable[[], bool],
) -> bool:
    """An engine whose trials come no further than to their images."""
    list(prepare_all(plan))
    return True


@pytest.mark.usefixtures("quick_report")
@pytest.mark.parametrize("prepared", [True, False])
def test_a_study_records_each_warning_once(
    prepared: bool, study_file: Path, output: Path, command: Command, played_by: PlayedBy
) -> None:
    played_by(decodes)
    if prepared:
        code, out, _ = command(study_file, "--prepare")
        assert code == 0
        assert f"warning: {LEAKS}" in out and f"warning: {PASSED}" in out
    _, out, _ = command(study_file, "--output", output)
    passed, leaks = read_history(output / "ledger.jsonl").warnings
    assert passed.startswith(PASSED) and leaks.startswith(LEAKS)
    _, again, _ = command("--resume", output)
    assert out.count(f"warning: {LEAKS}") == 1
    assert "warning:" not in again


def test_one_configuration_records_them_as_well(
    study_file: Path,
    output: Path,
    command: Command,
    without_mlflow: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(plan: Plan, *_: object) -> str:
        list(prepare_all(plan))
        return "completed"

    monkeypatch.setattr(once, "_train", train)
    assert command(study_file, "--once", "--output", output).code == 0
    passed, leaks = read_history(output / "ledger.jsonl").warnings
    assert passed.startswith(PASSED) and leaks.startswith(LEAKS)
