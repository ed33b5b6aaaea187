"""The engine on a real Ray, with trials that only pretend to train."""

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import ray

from study.engine.ray_session import ray_session
from study.engine.resources import check_resources, slots
from study.engine.tuner import run_study
from study.ledger import History, Journal, Record, StorageError, StudyFolder
from study.planning.cells import Plan
from study.search import PastTrials
from study.system import is_private
from tests.study.fake_trainable import FakeTrainable
from tests.study.histories import journal_of
from tests.study.small_study import small_plan

Records = list[Record]
SGD = {"method.name": "sequential", "data.tasks": 4, "optim.optimizer": "sgd"}

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One Ray for the module, with a home of its own; nothing of Tune may outlive it.

    An object of Ray's that the garbage collector finds while Ray ends would end the process.
    """
    folder = tmp_path_factory.mktemp("engine")
    shut_down = ray.shutdown
    left: list[tuple[bool, int]] = []

    def counted() -> None:
        references = sum(isinstance(thing, ray.ObjectRef) for thing in gc.get_objects())
        left.append((gc.isenabled(), references))
        shut_down()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("FAKE_TRAINABLE_MARKS", str(folder))
        patch.setattr(ray, "shutdown", counted)
        with ray_session(folder / "ray.log"):
            yield folder
    assert not ray.is_initialized()
    assert left == [(False, 0)]
    assert gc.isenabled()


@pytest.mark.usefixtures("folder")
def test_nobody_else_gets_at_the_files_of_a_ray_that_is_started_here() -> None:
    # It is open to everybody itself.
    opened = Path(ray._private.worker.global_worker.node.get_temp_dir_path())
    assert is_private(opened.parent)


@pytest.mark.usefixtures("folder")
def test_all_of_a_ray_that_is_started_here_listens_on_loopback() -> None:
    # Ray brings it along, and finds it once Ray was imported.
    import psutil  # type: ignore[import-untyped]

    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = {
        found.laddr.ip
        for process in family
        for found in process.net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    }
    assert listening and listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.fixture(scope="module")
def records(folder: Path) -> Records:
    """Of a cell that works, and one in which each trial loses its process once after two tasks."""
    plan = small_plan(
        grid={"optim.momentum": [0.0, 0.2]},
        fixed={**SGD, "method.name": "inflora"},
        trials=3,
        seeds=[4, 5],  # with these a later proposal is worse than an earlier one
        pruner={"first_rung": 3},
    )
    written: Records = []
    assert ran(plan, folder / "study", written)
    return written


def ran(
    plan: Plan,
    folder: Path,
    written: Records,
    stopped: Callable[[], bool] = lambda: False,
    before: Sequence[Record] = (),
    journal: Journal | None = None,
) -> bool:
    """Runs a study whose records go to a list, or a journal; whether it came to its end."""
    journal = journal or journal_of(written, before)
    past = PastTrials(journal.history, plan)
    return run_study(plan, StudyFolder(folder), journal, past, stopped, FakeTrainable)


def of(records: Records, kind: str, **values: object) -> Records:
    return [
        record for record in records if record["kind"] == kind and values.items() <= record.items()
    ]


def names(records: Records) -> list[str]:
    return [record["trial"] for record in records]


def test_every_trial_starts_and_ends_once_and_its_tasks_are_recorded_in_order(
    records: Records, folder: Path
) -> None:
    started, ended = names(of(records, "trial")), names(of(records, "end"))
    assert len(started) == 2 * 3 + 2 * 2
    assert sorted(started) == sorted(set(started)) == sorted(ended)
    # Search records hold validation metrics only.
    splits = {"search": "val/accuracy", "confirm": "test/accuracy"}
    for trial in of(records, "trial"):
        tasks = of(records, "task", trial=trial["trial"])
        assert [task["task"] for task in tasks] == list(range(1, len(tasks) + 1))
        for task in tasks:
            # Searches look at the rung and at the last task.
            evaluated = trial["role"] == "confirm" or task["task"] in (3, 4)
            own = {splits[trial["role"]]} if evaluated else set()
            assert set(task["metrics"]) == {"train/loss"} | own
            assert len(task["accuracy_row"]) == (task["task"] if evaluated else 0)
        (end,) = of(records, "end", trial=trial["trial"])
        assert (end["status"] == "completed") == (len(tasks) == 4)
        # The last checkpoint of each confirmation is kept.
        inside = (folder / "study/ray/session-1").glob(f"{trial['trial']}*/checkpoint_*")
        assert len(list(inside)) == (trial["role"] == "confirm")
    # Trials whose process died went on from their last task.
    assert (folder / "0.2-4").exists()
    assert len(of(records, "trial", cell="optim.momentum=0.2")) == 5
    assert not of(records, "end", status="failed")


def test_the_best_setting_is_confirmed_on_every_seed(records: Records) -> None:
    cell = "optim.momentum=0.0"
    (winner,) = of(records, "winner", cell=cell)
    ranks = [trial["searched"]["method.rank"] for trial in of(records, "trial", cell=cell)]
    assert winner["searched"]["method.rank"] == max(ranks)
    confirmed = of(records, "trial", cell=cell, role="confirm")
    assert [trial["seed"] for trial in confirmed] == [4, 5]
    assert all(trial["searched"] == winner["searched"] for trial in confirmed)
    for trial in confirmed:
        assert of(records, "end", trial=trial["trial"], status="completed")


def test_pruning_ends_search_trials_at_a_rung(records: Records) -> None:
    expected = set()
    # Of up to three trials, the first third is one: whoever is behind the best so far ends.
    for cell in of(records, "winner"):
        best = 0.0
        searches = names(of(records, "trial", cell=cell["cell"], role="search"))
        for task in of(records, "task", task=3):
            if task["trial"] in searches:
                best = max(best, task["metrics"]["val/accuracy"])
                if task["metrics"]["val/accuracy"] < best:
                    expected.add(task["trial"])
    pruned = names(of(records, "end", status="pruned"))
    assert set(pruned) == expected
    assert {len(of(records, "task", trial=trial)) for trial in pruned} <= {3}


def test_a_node_that_fails_its_check_uses_up_no_restart(folder: Path) -> None:
    fixed = {**SGD, "data.tasks": 2}
    grid = {"optim.momentum": [0.7]}
    plan = small_plan(grid=grid, fixed=fixed, search="none", seeds=[71], retries=0)
    written: Records = []
    assert ran(plan, folder / "unfit node", written)
    (end,) = of(written, "end")
    assert (folder / "0.7-71").exists() and len(of(written, "continued")) == 1
    assert (end["status"], end["retries"]) == ("completed", 0)


def test_trials_that_cannot_be_set_up_or_go_on_fail_and_say_why(
    folder: Path, tmp_path: Path
) -> None:
    records: Records = []
    plan = small_plan(
        grid={"optim.momentum": [0.1, 0.4, 0.5, 0.6]},
        fixed=SGD,
        trials=1,
    )
    assert ran(plan, tmp_path, records)
    assert len(of(records, "failed_cell")) == 4
    for momentum, reason, retries, tasks, error in (
        (0.1, "error", 1, 2, "ValueError: momentum must not be 0.1. (in task 3 of 4, with "),
        (0.4, "diverged", 0, 1, "FloatingPointError: not finite (in task 2 of 4, with "),
        (0.5, "out_of_memory", 0, 0, "OutOfMemoryError: too large (in task 1 of 4, with "),
        (0.6, "error", 1, 0, "ValueError: momentum must not be 0.6. (in task 1 of 4, with "),
    ):
        (trial,) = of(records, "trial", cell=f"optim.momentum={momentum}")
        (end,) = of(records, "end", trial=trial["trial"])
        assert (end["status"], end["reason"], end["retries"]) == ("failed", reason, retries)
        assert end["error"].startswith(error)
        assert f"optim.lr={trial['searched']['optim.lr']}" in end["error"]
        assert len(of(records, "task", trial=trial["trial"])) == tasks
    assert not list(tmp_path.glob("ray/*"))


def test_a_trial_that_fits_no_machine_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"resources.cpu must be at most .* but got 1000"):
        check_resources(cpu=1000, gpu=0)
    assert slots(cpu=1000, gpu=0) == 1


def test_a_stopped_study_marks_its_running_trials_and_goes_on_where_it_was(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    records: Records = []
    fixed = {"data.tasks": 8, "optim.weight_decay": 0.1}
    plan = small_plan(grid={"method.name": ["sequential"]}, fixed=fixed, max_concurrent=1)
    assert not ran(plan, tmp_path, records, lambda: len(of(records, "task")) >= 3)
    assert capfd.readouterr() == ("", "")
    assert set(names(of(records, "trial"))) == set(names(of(records, "end")))
    (interrupted,) = of(records, "end", status="interrupted")
    (checkpoint,) = of(records, "checkpoint", trial=interrupted["trial"])[-1:]
    written: Records = []
    assert ran(plan, tmp_path, written, before=records)
    records = records + written
    (mark,) = of(records, "continued")
    assert (mark["trial"], mark["from_task"]) == (interrupted["trial"], checkpoint["task"])
    assert (folder / f"from-{checkpoint['task']}").exists()
    ended = [end["trial"] for end in of(records, "end") if end["status"] != "interrupted"]
    launched = names(of(records, "trial"))
    assert sorted(ended) == sorted(launched) == sorted(set(launched))
    assert len(launched) == 3 + 2
    tasks = [(task["trial"], task["task"]) for task in of(records, "task")]
    assert len(tasks) == len(set(tasks))
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("ray/*/*/*")}
    newest = {record["trial"]: record["path"] for record in of(records, "checkpoint")}
    assert kept == {newest[trial] for trial in names(of(records, "trial", role="confirm"))}


def test_a_resumed_trial_that_dies_goes_on_from_its_newest_checkpoint(
    folder: Path, tmp_path: Path
) -> None:
    records: Records = []
    plan = small_plan(
        grid={"optim.momentum": [0.2]},
        fixed=SGD,
        trials=1,
        seeds=[7],
        pruner={"kind": "none"},
    )
    stopped = lambda: bool(of(records, "checkpoint"))  # noqa: E731
    assert not ran(plan, tmp_path, records, stopped)
    written: Records = []
    assert ran(plan, tmp_path, written, before=records)
    records = records + written
    assert (folder / "0.2-7").exists(), "the process has died once"
    assert of(records, "continued")[0]["from_task"] == 1
    ends = of(records, "end")
    assert [end["status"] for end in ends] == ["interrupted", "completed", "completed"]
    assert ends[1]["retries"] == 1


def test_a_full_disk_in_a_trial_stops_the_study_and_says_what_to_do(
    folder: Path, tmp_path: Path
) -> None:
    records: Records = []
    # What there is to go on from.
    (tmp_path / "ledger.jsonl").write_text("{}\n", encoding="utf-8")
    plan = small_plan(
        grid={"optim.momentum": [0.3]},
        fixed=SGD,
        max_concurrent=1,
    )
    with pytest.raises(StorageError) as caught:
        ran(plan, tmp_path, records)
    free = rf"No space left on device. Free here: .* GB in {tmp_path}.*--resume {tmp_path}$"
    assert re.search(f"cannot be written: .*{free}", str(caught.value))
    (end,) = of(records, "end")
    assert end["status"] == "interrupted"
    assert [record["task"] for record in of(records, "checkpoint")] == [1]


@pytest.mark.parametrize(
    "kind",
    ["task", *(pytest.param(kind, marks=pytest.mark.nightly) for kind in ("checkpoint", "end"))],
)
def test_a_ledger_that_takes_nothing_more_stops_the_study(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    records: Records = []

    def write(record: Record) -> Record:
        if record["kind"] == kind:
            raise StorageError("the study cannot be written")
        records.append({**record, "time": float(len(records))})
        return records[-1]

    plan = small_plan(grid={"method.name": ["sequential"]}, fixed={"data.tasks": 2})
    with pytest.raises(StorageError, match="the study cannot be written"):
        ran(plan, tmp_path, records, journal=Journal(write, History()))
    assert not of(records, kind)
