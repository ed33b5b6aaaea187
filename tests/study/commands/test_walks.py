"""Through which files a value goes to where it is used, as study/README.md lists them."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from study import run
from study.engine.checkpoints import Checkpoints
from study.engine.searcher import EVALUATE_AFTER, StudySearcher
from study.ledger import History, Journal, StudyFolder
from study.planning import Plan
from study.search import PastTrials, StudySearch
from tests.boundaries.test_rooms import PROJECT
from tests.study.commands.conftest import PlayedBy, WriteStudy
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer

# A number that nothing else of so small a trial is.
RANK = 13
STUDY: dict[str, Any] = {
    "name": "walk",
    "question": "Where does the rank go?",
    "grid": {"method.name": ["inflora"]},
    "fixed": {
        "method.rank": RANK,
        "data.name": "gaussian",
        "data.image_size": 8,
        "data.classes": 2,
        "data.tasks": 2,
        "data.train_per_class": 4,
        "data.test_per_class": 2,
        "optim.epochs": 1,
        "backbone.name": "test_vit",
        "backbone.pretrained": False,
    },
    "search": {"inflora": {"optim.lr": None}},
    "trials": 2,
    "seeds": [0],
}


@contextmanager
def entered(files: set[str], holds: Callable[[Any], bool]) -> Iterator[None]:
    """Adds the project's files with a function that has the value among arguments or result."""

    def note(frame: FrameType, event: str, result: Any) -> None:
        code = frame.f_code
        path = Path(code.co_filename)
        # What a generator yields is no result.
        yields = event == "return" and code.co_flags & inspect.CO_GENERATOR
        if event not in ("call", "return") or yields or PROJECT not in path.parents:
            return
        file = path.relative_to(PROJECT).as_posix()
        if file.startswith("tests/") or path.name == "__init__.py":
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = [frame.f_locals.get(name) for name in names if name not in ("self", "cls")]
        if any(map(holds, values if event == "call" else [result])):
            files.add(file)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def listed(value: str) -> list[str]:
    """The files that study/README.md names on the way of a value."""
    text = (PROJECT / "study/README.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\*\*`{re.escape(value)}`\*\*.*?\n\n(.*?)\n\n", text, re.M | re.S)
    return sorted(re.findall(r"`(\S+\.py)`", found))


def holds_rank(value: Any) -> bool:
    """A rank, or a mapping or object that has it under its name."""
    if isinstance(value, dict):
        return RANK in (value.get("method.rank"), value.get("rank"))
    if type(value).__module__.startswith(("study", "trainables")):
        return bool(getattr(value, "rank", None) == RANK)
    return type(value) is int and value == RANK


@pytest.fixture
def first_settings(played_by: PlayedBy) -> dict[str, Any]:
    """The settings of the first trial that a study hands out, filled when it does."""
    settings: dict[str, Any] = {}

    def hand_out(
        plan: Plan, folder: StudyFolder, journal: Journal, past: PastTrials, *_: Any
    ) -> bool:
        search = StudySearch(plan, journal, past, lambda: 2, 0.0)
        searcher = StudySearcher(search, journal, Checkpoints(folder, journal), 0.0)
        handed_out = searcher.suggest("1")
        assert isinstance(handed_out, dict)
        settings.update(handed_out)
        # For the trainable, not for the trainer.
        settings.pop(EVALUATE_AFTER, None)
        sys.setprofile(None)
        return False

    played_by(hand_out)
    return settings


@pytest.mark.slow
@pytest.mark.usefixtures("quick_report")
def test_a_rank_goes_from_the_study_file_to_the_branch_through_few_files(
    write_study: WriteStudy, first_settings: dict[str, Any], tmp_path: Path
) -> None:
    driver: set[str] = set()
    worker: set[str] = set()
    with entered(driver, holds_rank):
        run.main([str(write_study(STUDY)), "--output", str(tmp_path / "out")])
    assert first_settings["method.rank"] == RANK
    with entered(worker, holds_rank):
        SequentialTrainer(TrialConfig.from_params(first_settings)).train_task()
    assert sorted([*driver, *worker]) == listed("method.rank")
    assert len(driver) + len(worker) <= 20


@pytest.mark.slow
@pytest.mark.usefixtures("quick_report", "first_settings")
def test_a_folder_to_resume_goes_to_the_first_trial_through_few_files(
    write_study: WriteStudy, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    run.main([str(write_study(STUDY)), "--output", str(folder)])
    files: set[str] = set()

    def holds_folder(value: Any) -> bool:
        if isinstance(value, list):
            return any(map(holds_folder, value))
        if isinstance(value, str | Path):
            return str(value) in (str(folder), str(folder / "ledger.jsonl"))
        if isinstance(value, StudyFolder | Journal | History | PastTrials):
            return True
        return bool(getattr(value, "resume", None) == str(folder))

    with entered(files, holds_folder):
        run.main(["--resume", str(folder)])
    assert sorted(files) == listed("--resume")
    assert len(files) <= 24
