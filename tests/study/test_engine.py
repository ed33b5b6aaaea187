"""The engine on a real Ray, with trials that only pretend to train."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from study.engine import run_study
from study.ledger import Record
from study.planning import Plan
from study.ray_session import check_resources, ray_session, slots
from study.restore import Past
from study.storage import StorageError
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
        assert (end["status"], end["reason"], end["retries"]) == ("failed", "error", 1)
        assert end["error"].startswith(
            "ValueError: momentum must not be 0.1. (in task 3 of 4, with "
        )
    (record,) = of(records, "failed_cell")
    assert record["cell"] == cell


def test_a_trial_that_cannot_be_set_up_says_why(folder: Path) -> None:
    plan = small_plan(
        grid={"optim.momentum": [0.6]},
        fixed={"method.name": "inflora", "data.tasks": 2, "optim.optimizer": "sgd"},
        search="none",
        seeds=[0],
    )
    found: Records = []
    assert run_study(plan, folder / "set up", found.append, FakeTrainable)
    (end,) = of(found, "end")
    assert (end["status"], end["reason"]) == ("failed", "error")
    assert end["error"] == "ValueError: momentum must not be 0.6. (in task 1 of 2)"


def test_a_trial_whose_process_died_goes_on_from_its_last_task(
    records: Records, folder: Path
) -> None:
    assert (folder / "4").exists()
    trials = of(records, "trial", cell="optim.momentum=0.2")
    assert len(trials) == 5
    ends = [of(records, "end", trial=one["trial"])[0]["status"] for one in trials]
    assert "failed" not in ends


def test_a_node_that_fails_its_check_uses_up_no_restart(folder: Path) -> None:
    plan = small_plan(
        grid={"method.name": ["sequential"]},
        fixed={"optim.optimizer": "sgd", "optim.momentum": 0.7, "data.tasks": 2},
        search="none",
        seeds=[71],
        retries=0,
    )
    found: Records = []
    assert run_study(plan, folder / "unfit node", found.append, FakeTrainable)
    (end,) = of(found, "end")
    assert (folder / "71").exists() and len(of(found, "continued")) == 1
    assert (end["status"], end["retries"]) == ("completed", 0)


def test_the_last_checkpoint_of_each_confirmation_is_kept(records: Records, folder: Path) -> None:
    for trial in of(records, "trial"):
        inside = (folder / "study/ray/session-1").glob(f"{trial['trial']}*/checkpoint_*")
        assert len(list(inside)) == (trial["role"] == "confirm")


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
        check_resources(cpu=1000, gpu=0)
    assert slots(cpu=1000, gpu=0) == 1


def test_a_stopped_study_goes_on_where_it_was(
    stopping: Callable[[int], tuple[bool, Records]], tmp_path: Path, folder: Path
) -> None:
    _, records = stopping(3)
    (interrupted,) = of(records, "end", status="interrupted")
    (checkpoint,) = of(records, "checkpoint", trial=interrupted["trial"])[-1:]
    plan = small_plan(**STOPPED)
    assert run_study(
        plan, tmp_path, records.append, FakeTrainable, past=Past(records, plan, tmp_path)
    )
    (mark,) = of(records, "continued")
    assert (mark["trial"], mark["from_task"]) == (interrupted["trial"], checkpoint["task"])
    assert (folder / f"from-{checkpoint['task']}").exists()
    ended = [one["trial"] for one in of(records, "end") if one["status"] != "interrupted"]
    launched = [one["trial"] for one in of(records, "trial")]
    assert sorted(ended) == sorted(launched) == sorted(set(launched))
    assert len(launched) == 3 + 2
    tasks = [(one["trial"], one["task"]) for one in of(records, "task")]
    assert len(tasks) == len(set(tasks))
    kept = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("ray/*/*/*"))
    confirmed = {one["trial"] for one in of(records, "trial", role="confirm")}
    newest = {one["trial"]: one["path"] for one in of(records, "checkpoint")}
    assert kept == sorted(newest[trial] for trial in confirmed)


def test_a_resumed_trial_that_dies_goes_on_from_its_newest_checkpoint(
    folder: Path, tmp_path: Path
) -> None:
    records: Records = []
    plan = small_plan(
        grid={"optim.momentum": [0.2]},
        fixed={"method.name": "sequential", "data.tasks": 4, "optim.optimizer": "sgd"},
        trials=1,
        seeds=[7],
        pruner={"kind": "none"},
    )
    stopped = lambda: bool(of(records, "checkpoint"))  # noqa: E731
    assert not run_study(plan, tmp_path, records.append, FakeTrainable, stopped)
    past = Past(records, plan, tmp_path)
    assert run_study(plan, tmp_path, records.append, FakeTrainable, past=past)
    assert (folder / "7").exists(), "the process has died once"
    assert of(records, "continued")[0]["from_task"] == 1
    ends = of(records, "end")
    assert [one["status"] for one in ends] == ["interrupted", "completed", "completed"]
    assert ends[1]["retries"] == 1


def test_a_trial_that_cannot_go_on_fails_without_a_restart(folder: Path, tmp_path: Path) -> None:
    records: Records = []
    plan = small_plan(
        grid={"optim.momentum": [0.4, 0.5]},
        fixed={"method.name": "sequential", "data.tasks": 3, "optim.optimizer": "sgd"},
        trials=1,
    )
    assert run_study(plan, tmp_path, records.append, FakeTrainable)
    ends = {one["reason"]: one for one in of(records, "end")}
    assert set(ends) == {"diverged", "out_of_memory"}
    assert {one["status"] for one in ends.values()} == {"failed"}
    assert {one["retries"] for one in ends.values()} == {0}
    rate = of(records, "trial", cell="optim.momentum=0.4")[0]["searched"]["optim.lr"]
    assert ends["diverged"]["error"].startswith("FloatingPointError: not finite (in task 2 of 3")
    assert f"optim.lr={rate}" in ends["diverged"]["error"]
    assert "in task 1 of 3" in ends["out_of_memory"]["error"]
    assert len(of(records, "task")) == len(of(records, "checkpoint")) == 1
    assert len(of(records, "failed_cell")) == 2
    assert not list(tmp_path.glob("ray/*"))


def test_a_full_disk_in_a_trial_stops_the_study_and_says_what_to_do(
    folder: Path, tmp_path: Path
) -> None:
    records: Records = []
    plan = small_plan(
        grid={"optim.momentum": [0.3]},
        fixed={"method.name": "sequential", "data.tasks": 4, "optim.optimizer": "sgd"},
        max_concurrent=1,
    )
    with pytest.raises(StorageError) as caught:
        run_study(plan, tmp_path, records.append, FakeTrainable)
    assert re.search(
        rf"cannot be written: .*No space left on device. Free here: .* GB in {tmp_path}.*"
        rf"--resume {tmp_path}$",
        str(caught.value),
    )
    (end,) = of(records, "end")
    assert end["status"] == "interrupted"
    assert [one["task"] for one in of(records, "checkpoint")] == [1]


@pytest.mark.parametrize("kind", ["task", "checkpoint", "end"])
def test_a_ledger_that_takes_nothing_more_stops_the_study(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    records: Records = []

    def record(one: Record) -> None:
        if one["kind"] == kind:
            raise StorageError("the study cannot be written")
        records.append(one)

    plan = small_plan(grid={"method.name": ["sequential"]}, fixed={"data.tasks": 2})
    with pytest.raises(StorageError, match="the study cannot be written"):
        run_study(plan, tmp_path, record, FakeTrainable)
    assert not of(records, kind)


def test_a_budget_ends_the_search_after_its_first_trial(folder: Path, tmp_path: Path) -> None:
    records: Records = []
    plan = small_plan(
        grid={"method.name": ["sequential"]},
        fixed={"data.tasks": 2},
        trials=9,
        budget={"wall_hours": 1e-9},
        max_concurrent=1,
    )
    assert run_study(plan, tmp_path, records.append, FakeTrainable)
    assert [one["role"] for one in of(records, "trial")] == ["search", "confirm", "confirm"]


STOPPED: dict[str, Any] = {
    "grid": {"method.name": ["sequential"]},
    "fixed": {"data.tasks": 8, "optim.weight_decay": 0.1},
    "max_concurrent": 1,
}


@pytest.fixture
def stopping(folder: Path, tmp_path: Path) -> Callable[[int], tuple[bool, Records]]:
    """Runs a study that is stopped after so many tasks."""

    def run(tasks: int) -> tuple[bool, Records]:
        records: Records = []
        plan = small_plan(**STOPPED)
        stopped = lambda: len(of(records, "task")) >= tasks  # noqa: E731
        return run_study(plan, tmp_path, records.append, FakeTrainable, stopped), records

    return run


def test_nothing_of_tune_outlives_a_session() -> None:
    """An object of Ray's that the garbage collector finds while Ray ends would end the process."""
    code = """
import gc, sys
from pathlib import Path
import ray
from study import ray_session
from study.engine import run_study
from tests.study.fake_trainable import FakeTrainable
from tests.study.small_study import small_plan

shut_down, left = ray.shutdown, []
def counted():
    left.append((gc.isenabled(), sum(isinstance(one, ray.ObjectRef) for one in gc.get_objects())))
    shut_down()
ray.shutdown = counted
fixed = {"method.name": "inflora", "optim.optimizer": "sgd", "optim.momentum": 0.0}
plan = small_plan(grid={"data.tasks": [2]}, fixed=fixed, trials=2)
assert run_study(plan, Path(sys.argv[1]), lambda record: None, FakeTrainable)
assert left == [(False, 0)], left
assert gc.isenabled()
"""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "HOME": folder, "RAY_AUTH_MODE": "disabled"}
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(
            [sys.executable, "-c", code, folder],
            env=environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=200,
        )
    assert done.returncode == 0, done.stderr
