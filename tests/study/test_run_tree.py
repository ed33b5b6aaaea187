from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from study.ledger import Record
from study.run_tree import RunTree, finite
from tests.study.tracked import study_records


class FakeStore:
    """Remembers what it is told, by the names of the runs; the same point twice is one."""

    def __init__(self) -> None:
        self.away = False
        self.columns: Sequence[str] = ()
        self.parents: dict[str, str | None] = {}
        self.tags: dict[str, dict[str, Any]] = {}
        self.params: dict[str, dict[str, Any]] = {}
        self.metrics: dict[tuple[str, str, int, float], float] = {}
        self.status: dict[str, list[str]] = {}
        self.attached: dict[str, tuple[Any, list[int]]] = {}

    def open_experiment(self, name: str, about: str, study_id: str) -> None:
        self._reach()

    def show_columns(self, columns: Sequence[str]) -> None:
        self.columns = columns

    def open_run(
        self, item: str, name: str, parent: str | None, tags: Mapping[str, Any], record: Record
    ) -> str:
        self._reach()
        assert name not in self.parents
        self.parents[name] = parent
        self.tags[name] = dict(tags)
        return name

    def set_status(self, run: str, status: str, record: Record | None) -> None:
        self.status.setdefault(run, []).append(status)

    def write_metrics(self, run: str, metrics: Mapping[str, float], step: int, at: Record) -> None:
        self._reach()
        self.metrics |= {(run, key, step, at["time"]): value for key, value in metrics.items()}

    def write_params(self, run: str, params: Mapping[str, Any]) -> None:
        self.params[run] = dict(params)

    def write_tags(self, run: str, tags: Mapping[str, Any]) -> None:
        self.tags[run].update(tags)

    def attach_spec(self, run: str, spec: Mapping[str, Any]) -> None:
        self.attached[run] = (dict(spec), [])

    def attach_results(self, run: str, name: str, rank: Any, tasks: Mapping[int, Record]) -> None:
        self.attached[run] = (rank, sorted(tasks))

    def curve(self, run: str, key: str) -> dict[int, float]:
        """Steps and values of a metric; a step written twice is an error."""
        points = [
            (step, value)
            for (one, name, step, _), value in self.metrics.items()
            if (one, name) == (run, key)
        ]
        assert len(dict(points)) == len(points)
        return dict(points)

    def _reach(self) -> None:
        if self.away:
            raise ConnectionError("away")


def write_all(records: Sequence[Record]) -> FakeStore:
    store = FakeStore()
    tree = RunTree(store)
    for record in records:
        tree.write(record)
    return store


def test_runs_form_a_tree() -> None:
    store = write_all(study_records())
    study = "quick · 2026-11-21 12:00 UTC"
    cell = "inflora · 3 tasks"
    assert store.parents == {
        study: None,
        cell: study,
        f"search 01 · {cell}": cell,
        f"search 02 · {cell}": cell,
        f"seed 5 (confirm) · {cell}": cell,
        f"seed 6 (confirm) · {cell}": cell,
    }
    assert store.tags[f"search 01 · {cell}"]["role"] == "search"
    assert store.params[cell] == {
        "data.classes": 6,
        "method.name": "inflora",
        "data.tasks": 3,
        "range/method.rank": "1 … 8",
    }
    assert "params.`method.rank`" in store.columns


def test_status_of_trials() -> None:
    store = write_all(study_records())
    assert store.status["search 01 · inflora · 3 tasks"] == ["FINISHED"]
    assert store.status["search 02 · inflora · 3 tasks"] == ["FINISHED"]
    assert store.tags["search 02 · inflora · 3 tasks"]["status"] == "pruned"
    assert store.status["inflora · 3 tasks"] == ["FINISHED"]


def test_null_metrics_are_left_out() -> None:
    store = write_all(study_records())
    assert "memory/peak_device_bytes" not in {key for _, key, _, _ in store.metrics}
    assert finite({"a": None, "b": float("nan"), "c": 1}) == {"c": 1.0}


def test_cell_gets_the_mean_over_seeds_and_the_winner() -> None:
    store = write_all(study_records())
    cell = "inflora · 3 tasks"
    seeds = [store.curve(f"seed {seed} (confirm) · {cell}", "test/accuracy") for seed in (5, 6)]
    expected = {task: (seeds[0][task] + seeds[1][task]) / 2 for task in (1, 2, 3)}
    assert store.curve(cell, "test/accuracy") == pytest.approx(expected)
    assert set(store.curve(cell, "test/forgetting")) == {2, 3}
    assert store.tags[cell]["confirmed_seeds"] == 2
    assert store.tags[cell]["best/method.rank"] == 4
    assert store.curve(cell, "best/val/accuracy") == {0: 0.7}


def test_a_cell_that_was_not_searched_has_no_best_trial() -> None:
    records = [
        {**one, "searched": {}, "value": None} if one["kind"] == "winner" else one
        for one in study_records()
        if not (one.get("trial") or "").endswith(("0", "1")) or one["kind"] == "winner"
    ]
    store = write_all(records)
    cell = "inflora · 3 tasks"
    assert store.tags[cell]["best trial"] == "none"
    assert store.curve(cell, "best/val/accuracy") == {}
    assert store.tags[cell]["confirmed_seeds"] == 2


def test_completed_confirmations_get_their_pictures() -> None:
    store = write_all(study_records())
    assert store.attached["seed 5 (confirm) · inflora · 3 tasks"] == (4, [1, 2, 3])
    assert "search 01 · inflora · 3 tasks" not in store.attached


def test_records_that_come_twice_are_written_once() -> None:
    once, twice = write_all(study_records()), write_all([*study_records(), *study_records()])
    assert twice.metrics == once.metrics
    assert twice.parents == once.parents
    assert {run: one[-1] for run, one in twice.status.items()} == {
        run: one[-1] for run, one in once.status.items()
    }


def test_an_interrupted_trial_goes_on() -> None:
    records = study_records()
    ended = next(index for index, record in enumerate(records) if record["kind"] == "end")
    trial = records[ended]["trial"]
    cut = {**records[ended - 1], "kind": "end", "status": "interrupted", "error": None}
    store = write_all([*records[: ended - 1], cut, *records[ended - 1 :]])
    assert trial == cut["trial"]
    run = "search 01 · inflora · 3 tasks"
    assert store.status[run] == ["KILLED", "RUNNING", "FINISHED"]
    assert set(store.curve(run, "val/accuracy")) == {1, 2, 3}


def test_trials_left_running_are_killed_by_the_end_of_the_study() -> None:
    records = study_records()
    cut = next(index for index, record in enumerate(records) if record["kind"] == "end")
    finished = {**records[-1], "status": "interrupted"}
    store = write_all([*records[:cut], finished])
    assert store.status["search 01 · inflora · 3 tasks"] == ["KILLED"]
    assert store.status["inflora · 3 tasks"] == ["KILLED"]


def test_only_what_came_while_the_store_was_away_is_missing() -> None:
    records = study_records()
    store = FakeStore()
    tree = RunTree(store)
    store.away = True
    lost = 5  # study, cell, trial and its first two tasks
    for record in records[:lost]:
        with pytest.raises(ConnectionError):
            tree.write(record)
    store.away = False
    for record in records[lost:]:
        tree.write(record)
    whole = write_all(records)
    assert store.parents == whole.parents
    assert store.params == whole.params
    assert set(store.curve("search 01 · inflora · 3 tasks", "val/accuracy")) == {3}
    for record in records:
        tree.write(record)
    assert store.metrics == whole.metrics


def test_a_task_of_an_unknown_trial_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        RunTree(FakeStore()).write(
            {"kind": "task", "time": 0, "trial": "x", "task": 1, "metrics": {}}
        )


def test_a_cell_without_a_winner_says_why() -> None:
    records = [one for one in study_records() if one["kind"] in ("study", "cell")]
    cell = next(one["cell"] for one in records if one["kind"] == "cell")
    reason = {"kind": "failed_cell", "cell": cell, "error": "none saw all tasks", "time": 1.0}
    store = write_all([*records, reason])
    assert store.tags["inflora · 3 tasks"]["error"] == "none saw all tasks"
