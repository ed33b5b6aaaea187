"""Tune's ids, Tune's words and the folders of its files, on the way to the search and back."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from study.engine.checkpoints import Checkpoints
from study.engine.searcher import CellScheduler, StudySearcher
from study.ledger import StudyFolder, records
from study.planning.cells import PlannedTrial
from tests.study.histories import checkpoint_in
from tests.study.search.driven_study import DrivenStudy
from tests.study.small_study import small_plan

CELL: dict[str, Any] = {"grid": {"method.name": ["inflora"], "data.tasks": [2]}, "trials": 1}


@pytest.fixture
def study() -> DrivenStudy:
    return DrivenStudy(**CELL, retries=1)


@pytest.fixture
def searcher(study: DrivenStudy, tmp_path: Path) -> StudySearcher:
    return searcher_of(study, tmp_path)


def searcher_of(study: DrivenStudy, folder: Path) -> StudySearcher:
    checkpoints = Checkpoints(StudyFolder(folder), study.journal)
    return StudySearcher(study.search, study.journal, checkpoints, gpus=0.5)


def test_trials_are_handed_out_by_tunes_ids_to_the_last_one(tmp_path: Path) -> None:
    study = DrivenStudy(slots=2, **CELL)
    searcher = searcher_of(study, tmp_path)
    params = searcher.suggest("a")
    trial = searcher.planned("a")
    # Its rungs would be at tasks that it does not see.
    assert params == {**trial.params, "evaluate_after": (2,)}
    assert searcher.folder("a") == trial.id
    assert searcher.suggest("b") is None
    searcher.on_trial_result("a", {"task": 1, "metrics/val/accuracy": 0.4, "other": 1})
    searcher.on_trial_complete("a", {"task": 2, "metrics/val/accuracy": 0.6})
    for ray_id in ("c", "d"):
        assert searcher.suggest(ray_id) == dict(searcher.planned(ray_id).params)
        assert searcher.planned(ray_id).role == "confirm"
        assert study.of("winner")[0]["value"] == 0.6
    for ray_id in ("c", "d"):
        searcher.on_trial_complete(ray_id, {"task": 2, "metrics/test/accuracy": 0.5})
    assert searcher.suggest("e") == Searcher.FINISHED


@pytest.mark.parametrize(
    "result",
    [
        {"task": 2, "metrics/val/accuracy": None},
        {"task": 1, "failed": "?", "reason": "out_of_memory"},
    ],
)
def test_a_trial_that_has_no_number_or_returns_its_failure_is_over_and_wins_nothing(
    study: DrivenStudy, searcher: StudySearcher, result: dict[str, Any]
) -> None:
    searcher.suggest("a")
    searcher.on_trial_complete("a", result)
    assert not searcher.goes_on("a")
    assert searcher.suggest("b") == Searcher.FINISHED
    assert len(study.of("failed_cell")) == 1


def test_a_trial_that_dies_is_handed_out_again_with_a_folder_of_its_own(
    study: DrivenStudy, searcher: StudySearcher
) -> None:
    params = searcher.suggest("a")
    searcher.on_trial_complete("a", None, error=True)
    assert searcher.goes_on("a")
    assert searcher.suggest("b") == params
    assert searcher.planned("b") == searcher.planned("a")
    assert (searcher.folder("b"), searcher.restarts("b")) == (f"{searcher.folder('a')}-1", 1)
    (mark,) = study.of("continued")
    assert (mark["from_task"], mark["problem"], mark["gpus"]) == (0, None, 0.5)
    # A failure of its node is not the trial's.
    searcher.blame_node("b")
    searcher.on_trial_complete("b", None, error=True)
    searcher.suggest("c")
    assert searcher.goes_on("b") and searcher.restarts("c") == 1
    searcher.on_trial_complete("c", None, error=True)
    assert not searcher.goes_on("c")


@pytest.mark.parametrize("damaged", [False, True])
def test_an_interrupted_trial_goes_on_from_its_checkpoint_if_it_is_whole(
    tmp_path: Path, damaged: bool
) -> None:
    first = DrivenStudy(**CELL)
    trial = first.start()
    first.train(trial, tasks=1)
    path = checkpoint_in(tmp_path / "ray" / "session-1" / trial.id)
    Checkpoints(StudyFolder(tmp_path), first.journal).safe(trial.id, 1, path.parent)
    first.journal.append(records.end(trial.id, "interrupted"))
    if damaged:
        path.unlink()
    second = DrivenStudy(before=first.records, **CELL)
    searcher = searcher_of(second, tmp_path)
    params = searcher.suggest("a")
    assert isinstance(params, dict)
    assert params.pop("resume_from", None) == (None if damaged else str(path.parent))
    assert params == {**trial.params, "evaluate_after": (2,)} and searcher.planned("a") == trial
    (mark,) = second.of("continued")
    assert mark["from_task"] == (0 if damaged else 1)
    assert (mark["problem"] is None) != damaged
    assert len(second.of("trial")) == 1


def accuracy(value: float) -> dict[str, float]:
    return {"val/accuracy": value}


class Cells:
    """Reports results of trials as Tune does and says what is decided."""

    def __init__(self, **changes: Any) -> None:
        pruner = {"first_rung": 1, "reduction": 2}
        self.plan = small_plan(**{"pruner": pruner, **changes})
        self.trials: dict[str, PlannedTrial] = {}
        self.scheduler = CellScheduler(self.plan.spec, self.trials.__getitem__)

    def report(self, name: str, result: dict[str, Any], cell: int = 0, role: Any = "search") -> str:
        searched = {"optim.lr": 1e-3 + ord(name[0]) / 1e6}
        self.trials[name] = self.plan.cells[cell].trial(role, searched, 0)
        trial: Any = SimpleNamespace(trial_id=name)
        return self.scheduler.on_trial_result(None, trial, {"task": 1, **result})


def test_cells_are_never_compared_and_confirmations_never_pruned() -> None:
    cells = Cells()
    assert cells.report("a", accuracy(0.9), cell=0) == "CONTINUE"
    assert cells.report("b", accuracy(0.1), cell=1) == "CONTINUE"
    assert cells.report("c", accuracy(0.8), cell=0) == "STOP"
    assert cells.report("d", {"test/accuracy": 0.1}, role="confirm") == "CONTINUE"


def test_a_trial_that_cannot_go_on_is_passed_over() -> None:
    cells = Cells()
    failed = {"failed": "FloatingPointError: the training loss must be finite", "done": True}
    assert cells.report("a", failed) == "CONTINUE"
    # It is not at the rung either, where it would have been the first of two.
    assert cells.report("b", accuracy(0.9)) == "CONTINUE"
    assert cells.report("c", accuracy(0.8)) == "STOP"


def test_the_criterion_is_that_of_the_study_file() -> None:
    fast = {"val/accuracy": 0.8, "val/forgetting": 0.3}
    slow = {"val/accuracy": 0.7, "val/forgetting": 0.0}
    for criterion, decision in (("accuracy", "STOP"), ("accuracy_minus_forgetting", "CONTINUE")):
        cells = Cells(pruner={"first_rung": 2, "reduction": 2, "criterion": criterion})
        assert cells.report("fast", {"task": 2, **fast}, cell=1) == "CONTINUE"
        assert cells.report("slow", {"task": 2, **slow}, cell=1) == decision


def test_a_search_ends_at_the_last_task_it_may_see_and_a_confirmation_does_not() -> None:
    cells = Cells(
        grid={"method.name": ["inflora"], "data.tasks": [4]},
        search={"space": "all", "protocol": "first_k_tasks", "first_tasks": 2},
    )
    assert cells.report("a", accuracy(0.9)) == "CONTINUE"
    assert cells.report("a", {**accuracy(0.9), "task": 2}) == "STOP"
    assert cells.report("b", {"test/accuracy": 0.9, "task": 2}, role="confirm") == "CONTINUE"


def test_rungs_of_an_earlier_session_are_recalled() -> None:
    before, after = Cells(), Cells()
    for name, value in (("a", 0.9), ("b", 0.5), ("c", 0.7)):
        cut = before.report(name, accuracy(value)) == "STOP"
        # Told so, a resumed study can end a trial that was to end when it was killed.
        assert after.scheduler.ends_at(before.trials[name], 1, accuracy(value)) == cut
    assert after.report("d", accuracy(0.6)) == "STOP"  # third of four
    assert after.report("e", accuracy(0.8)) == "CONTINUE"  # second of five
