"""The engine on a real Ray, with trials that only pretend to train."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from study.engine import run_study
from study.ledger import Record
from study.planning import Plan
from study.ray_session import check_resources, ray_session, slots
from study.spec import Resources
from tests.study.fake_trainable import FakeTrainable
from tests.study.small_study import small_plan

Records = list[Record]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One Ray for the module, with a home of its own."""
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("FAKE_TRAINABLE_MARKS", str(folder))
        with ray_session(folder / "ray.log"):
            yield folder
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Cells that work, fail after two tasks, and lose their process once after two tasks."""
    return small_plan(
        grid={"optim.momentum": [0.0, 0.1, 0.2]},
        fixed={"method.name": "inflora", "data.tasks": 4, "optim.optimizer": "sgd"},
        trials=3,
        seeds=[4, 5],  # with these a later proposal is worse than an earlier one
        pruner={"first_rung": 3},
    )


@pytest.fixture(scope="module")
def records(folder: Path, plan: Plan) -> Records:
    found: Records = []
    assert run_study(plan, folder / "study", found.append, FakeTrainable)
    return found


def of(records: Records, kind: str, **values: object) -> Records:
    return [
        one
        for one in records
        if one["kind"] == kind and all(one[key] == value for key, value in values.items())
    ]


def test_every_trial_starts_once_and_ends_once(records: Records) -> None:
    started = [one["trial"] for one in of(records, "trial")]
    ended = [one["trial"] for one in of(records, "end")]
    assert len(started) == 3 * 3 + 2 * 2
    assert sorted(started) == sorted(set(started)) == sorted(ended)


def test_tasks_are_recorded_in_order_and_once(records: Records) -> None:
    for trial in of(records, "trial"):
        tasks = [one["task"] for one in of(records, "task", trial=trial["trial"])]
        assert tasks == list(range(1, len(tasks) + 1))
        (end,) = of(records, "end", trial=trial["trial"])
        assert (end["status"] == "completed") == (len(tasks) == 4)


def test_search_records_hold_validation_metrics_only(records: Records) -> None:
    splits = {"search": "val/accuracy", "confirm": "test/accuracy"}
    for trial in of(records, "trial"):
        for task in of(records, "task", trial=trial["trial"]):
            assert set(task["metrics"]) == {splits[trial["role"]], "train/loss"}
            assert len(task["accuracy_row"]) == task["task"]


def test_the_best_setting_is_confirmed_on_every_seed(records: Records) -> None:
    cell = "optim.momentum=0.0"
    (winner,) = of(records, "winner", cell=cell)
    ranks = [one["searched"]["method.rank"] for one in of(records, "trial", cell=cell)]
    assert winner["searched"]["method.rank"] == max(ranks)
    confirmed = of(records, "trial", cell=cell, role="confirm")
    assert [one["seed"] for one in confirmed] == [4, 5]
    assert all(one["searched"] == winner["searched"] for one in confirmed)
    ended = [of(records, "end", trial=one["trial"])[0]["status"] for one in confirmed]
    assert ended == ["completed", "completed"]


def test_pruning_ends_search_trials_at_a_rung(records: Records) -> None:
    pruned = {one["trial"] for one in of(records, "end", status="pruned")}
    expected = set()
    # Of up to three trials, the first third is one: whoever is behind the best so far ends.
    for cell in of(records, "winner"):
        best = 0.0
        searches = {one["trial"] for one in of(records, "trial", cell=cell["cell"], role="search")}
        for task in of(records, "task", task=3):
            if task["trial"] in searches:
                best = max(best, task["metrics"]["val/accuracy"])
                if task["metrics"]["val/accuracy"] < best:
                    expected.add(task["trial"])
    assert pruned == expected
    assert {len(of(records, "task", trial=trial)) for trial in pruned} <= {3}


def test_a_failing_cell_is_recorded_and_the_others_go_on(records: Records) -> None:
    cell = "optim.momentum=0.1"
    failed = [one["trial"] for one in of(records, "trial", cell=cell)]
    assert len(failed) == 3
    for trial in failed:
        (end,) = of(records, "end", trial=trial)
        assert (end["status"], end["error"]) == ("failed", "ValueError: momentum must not be 0.1.")
    (record,) = of(records, "failed_cell")
    assert record["cell"] == cell


def test_a_trial_that_cannot_be_set_up_says_why(folder: Path) -> None:
    plan = small_plan(
        grid={"optim.momentum": [0.3]},
        fixed={"method.name": "inflora", "data.tasks": 2, "optim.optimizer": "sgd"},
        search="none",
        seeds=[0],
    )
    found: Records = []
    assert run_study(plan, folder / "set up", found.append, FakeTrainable)
    (end,) = of(found, "end")
    assert (end["status"], end["error"]) == ("failed", "ValueError: momentum must not be 0.3.")


def test_a_trial_whose_process_died_goes_on_from_its_last_task(
    records: Records, folder: Path
) -> None:
    assert (folder / "4").exists()
    trials = of(records, "trial", cell="optim.momentum=0.2")
    assert len(trials) == 5
    ends = [of(records, "end", trial=one["trial"])[0]["status"] for one in trials]
    assert "failed" not in ends


def test_the_last_checkpoint_of_each_confirmation_is_kept(records: Records, folder: Path) -> None:
    failed = {one["trial"] for one in of(records, "end", status="failed")}
    for trial in of(records, "trial"):
        inside = (folder / "study/ray/trials" / trial["trial"]).glob("checkpoint_*")
        keeps = trial["role"] == "confirm" or trial["trial"] in failed
        assert len(list(inside)) == keeps


def test_nothing_is_printed(
    folder: Path, capfd: pytest.CaptureFixture[str], stopping: Callable[[int], tuple[bool, Records]]
) -> None:
    stopping(1)
    assert capfd.readouterr() == ("", "")


def test_a_stopped_study_marks_its_running_trials(
    stopping: Callable[[int], tuple[bool, Records]],
) -> None:
    complete, records = stopping(3)
    assert not complete
    started = {one["trial"] for one in of(records, "trial")}
    assert started == {one["trial"] for one in of(records, "end")}
    assert of(records, "end", status="interrupted")


def test_a_trial_that_fits_no_machine_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"resources.cpu must be at most .* but got 1000"):
        check_resources(Resources(cpu=1000))
    assert slots(Resources(cpu=1000)) == 1


@pytest.fixture
def stopping(folder: Path, tmp_path: Path) -> Callable[[int], tuple[bool, Records]]:
    """Runs a study that is stopped after so many tasks."""

    def run(tasks: int) -> tuple[bool, Records]:
        records: Records = []
        plan = small_plan(
            grid={"method.name": ["sequential"]},
            fixed={"data.tasks": 8, "optim.weight_decay": 0.1},
            max_concurrent=1,
        )
        stopped = lambda: len(of(records, "task")) >= tasks  # noqa: E731
        return run_study(plan, tmp_path, records.append, FakeTrainable, stopped), records

    return run
