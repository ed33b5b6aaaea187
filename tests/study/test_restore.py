"""Restoring from made-up ledgers: nothing is lost, nothing is repeated."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from study.checkpoints import Checkpoints, session_folder
from study.ledger import Record
from study.restore import Past, find_study
from study.searcher import StudySearcher
from tests.study.small_study import small_plan


class Play:
    """A study without Ray, one trial after the other, whose records go through JSON.

    Accuracy is a function of settings and task, so that two ways to the same trial agree.
    """

    def __init__(self, folder: Path, records: list[Record] | None = None, **changes: Any) -> None:
        self.plan = small_plan(**changes)
        self.before = len(records or ())
        self.records: list[Record] = json.loads(json.dumps(records or []))
        self.past = Past(self.records, self.plan, folder)
        self.searcher = StudySearcher(self.plan, lambda: 1, self.take, self.past)
        self.count = 0

    def take(self, record: Record) -> None:
        self.records.append(json.loads(json.dumps(record)))

    def step(self, killed: bool = False) -> bool:
        """Runs the next trial; one that is killed records its first task alone."""
        self.count += 1
        config = self.searcher.suggest(str(self.count))
        if config == Searcher.FINISHED:
            return False
        assert isinstance(config, dict)
        planned = self.searcher.planned(str(self.count))
        seen = {one["task"] for one in self.of("task", trial=planned.id)}
        for task in range(1, 2 if killed else planned.tasks + 1):
            value = abs(hash_of(planned.searched, task))
            metrics = {"val/accuracy": value, "test/accuracy": value}
            flat = {"task": task, **{f"metrics/{key}": one for key, one in metrics.items()}}
            if task < planned.tasks:
                self.searcher.on_trial_result(str(self.count), flat)
            if task not in seen:
                row = {"metrics": metrics, "accuracy_row": [value]}
                self.take({"kind": "task", "trial": planned.id, "task": task, **row})
        if not killed:
            self.searcher.on_trial_complete(str(self.count), flat)
            self.take({"kind": "end", "trial": planned.id, "status": "completed", "error": None})
        return True

    def run(self) -> list[Record]:
        while self.step():
            pass
        return self.records

    def of(self, kind: str, **values: object) -> list[Record]:
        return [
            one
            for one in self.records
            if one["kind"] == kind and all(one[key] == value for key, value in values.items())
        ]


def hash_of(searched: Any, task: int) -> float:
    """A value in [0, 1) that looks random but depends on the settings and the task alone."""
    text = json.dumps([dict(searched), task], sort_keys=True)
    return sum(ord(letter) * (at + 7) for at, letter in enumerate(text)) % 997 / 997


def launched(records: list[Record]) -> list[str]:
    return [one["trial"] for one in records if one["kind"] == "trial"]


def without_marks(records: list[Record]) -> list[Record]:
    return [one for one in records if one["kind"] != "continued"]


@pytest.mark.parametrize("trials_before", [0, 1, 3, 7, 12, 19])
@pytest.mark.parametrize("killed", [False, True])
def test_a_resumed_serial_study_is_the_uninterrupted_one(
    tmp_path: Path, trials_before: int, killed: bool
) -> None:
    whole = Play(tmp_path).run()
    first = Play(tmp_path)
    for _ in range(trials_before):
        first.step()
    if killed:
        first.step(killed=True)
    second = Play(tmp_path, first.records).run()
    assert without_marks(second) == whole
    assert len(launched(second)) == 4 * (3 + 2)


@pytest.mark.parametrize("cut", range(1, 60, 4))
def test_a_ledger_cut_anywhere_leads_to_the_planned_trials_each_once(
    tmp_path: Path, cut: int
) -> None:
    whole = Play(tmp_path, grid={"method.name": ["inflora"], "data.tasks": [2, 4]}).run()
    again = Play(
        tmp_path, whole[:cut], grid={"method.name": ["inflora"], "data.tasks": [2, 4]}
    ).run()
    assert sorted(launched(again)) == sorted(launched(whole))
    assert len(set(launched(again))) == len(launched(again))
    tasks = [(one["trial"], one["task"]) for one in again if one["kind"] == "task"]
    assert len(set(tasks)) == len(tasks)
    winners = [one["cell"] for one in again if one["kind"] == "winner"]
    assert len(set(winners)) == len(winners) == 2


def test_a_kill_between_the_winner_and_its_confirmations_queues_them(tmp_path: Path) -> None:
    grid = {"method.name": ["inflora"], "data.tasks": [2]}
    whole = Play(tmp_path, grid=grid).run()
    at = next(at for at, one in enumerate(whole) if one["kind"] == "winner")
    again = Play(tmp_path, whole[: at + 1], grid=grid)
    assert again.run() == whole
    assert [one["seed"] for one in again.of("trial", role="confirm")] == [0, 1]


def test_a_finished_study_runs_nothing_again(tmp_path: Path) -> None:
    whole = Play(tmp_path).run()
    assert Play(tmp_path, whole).run() == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": 5},
        {"seeds": [0, 1, 2, 3]},
        {"grid": {"method.name": ["inflora", "sd_lora"], "data.tasks": [1, 2, 4]}},
    ],
)
def test_an_extended_study_repeats_nothing_and_confirms_what_wins_now(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = Play(tmp_path).run()
    more = Play(tmp_path, whole, **changes)
    records = more.run()
    assert records[: len(whole)] == whole
    assert len(set(launched(records))) == len(launched(records)) > len(launched(whole))
    for cell in more.plan.cells:
        (*_, winner) = more.of("winner", cell=cell.id)
        seeds = [
            one["seed"]
            for one in more.of("trial", cell=cell.id, role="confirm")
            if one["searched"] == winner["searched"]
        ]
        assert sorted(seeds) == sorted(more.plan.spec.seeds)
        assert len(more.of("trial", cell=cell.id, role="search")) == more.plan.spec.trials


def test_a_winner_that_stays_is_recorded_once(tmp_path: Path) -> None:
    records = Play(tmp_path, Play(tmp_path).run(), seeds=[0, 1, 2]).run()
    winners = [one["cell"] for one in records if one["kind"] == "winner"]
    assert len(winners) == len(set(winners)) == 4


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    first = Play(tmp_path)
    first.step(killed=True)
    (trial,) = launched(first.records)
    folder = session_folder(tmp_path, 1) / trial / "checkpoint_000000"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "trainer.pt", "w") as file:
        file.writestr("data", b"weights" * 100)
    Checkpoints(tmp_path, first.take, {}).safe(trial, 1, folder)
    first.take({"kind": "end", "trial": trial, "status": "interrupted", "error": None})
    second = Play(tmp_path, first.records)
    config = second.searcher.suggest("1")
    assert isinstance(config, dict)
    assert config.pop("resume_from") == str(folder)
    assert config == dict(second.searcher.planned("1").params)
    assert second.searcher.planned("1").id == trial
    (mark,) = second.of("continued")
    assert (mark["from_task"], mark["problem"]) == (1, None)
    assert len(second.of("trial")) == 1


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_broken_checkpoint_is_not_used_and_named(tmp_path: Path, damage: str) -> None:
    first = Play(tmp_path)
    first.step(killed=True)
    (trial,) = launched(first.records)
    path = session_folder(tmp_path, 1) / trial / "checkpoint_000000" / "trainer.pt"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", b"weights" * 100)
    Checkpoints(tmp_path, first.take, {}).safe(trial, 1, path.parent)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[:100])
    else:
        path.write_bytes(whole.replace(b"weights", b"weighty", 1))
    second = Play(tmp_path, first.records)
    config = second.searcher.suggest("1")
    assert isinstance(config, dict) and "resume_from" not in config
    (mark,) = second.of("continued")
    assert mark["from_task"] == 0
    said = {"missing": "cannot be read", "cut": "has 100 bytes and not", "flipped": "is damaged"}
    assert said[damage] in mark["problem"] and str(path) in mark["problem"]


def test_the_older_checkpoint_goes_only_when_the_newer_one_is_recorded(tmp_path: Path) -> None:
    folders = []
    for number in (1, 2):
        folder = session_folder(tmp_path, number) / "t" / "checkpoint_000000"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("1")
        folders.append(folder)
    there = []
    checkpoints = Checkpoints(tmp_path, lambda one: there.append(folders[0].exists()), {})
    checkpoints.safe("t", 1, folders[0])
    checkpoints.safe("t", 2, folders[1])
    assert there == [True, True]
    assert [folder.exists() for folder in folders] == [False, True]


def test_a_sweep_leaves_what_is_needed_alone(tmp_path: Path) -> None:
    needed = tmp_path / "ray/session-1/a/checkpoint_000002"
    for one in ("session-1/a/checkpoint_000001", "session-1/b/checkpoint_000000", "session-2/c"):
        (tmp_path / "ray" / one).mkdir(parents=True)
    needed.mkdir()
    record = {"path": needed.relative_to(tmp_path).as_posix()}
    Checkpoints(tmp_path, lambda one: None, {"a": record}).sweep()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "ray",
        "ray/session-1",
        "ray/session-1/a",
        "ray/session-1/a/checkpoint_000002",
    ]


def test_trials_that_would_mean_something_else_now_are_refused(tmp_path: Path) -> None:
    records = Play(tmp_path).run()
    first = next(one for one in records if one["kind"] == "trial")
    first["trial"], first["params"]["optim.epochs"] = "0123456789abcdef", 7
    with pytest.raises(
        ValueError, match=r"0123456789abcdef .* another one now: optim.epochs was 7"
    ):
        Past(records, small_plan(), tmp_path)


def test_a_study_is_found_by_folder_ledger_and_name(tmp_path: Path) -> None:
    for name in ("small-1", "small-2", "other-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ledger.jsonl").touch()
    newest = tmp_path / "small-2"
    assert find_study(str(newest), []) == newest
    assert find_study(str(newest / "ledger.jsonl"), []) == newest
    assert find_study("small", [tmp_path / "none", tmp_path]) == newest
    with pytest.raises(ValueError, match=r"--resume must name the folder .* but got 'nothing'"):
        find_study("nothing", [tmp_path])
