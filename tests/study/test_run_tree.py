import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from study.ledger import Record
from study.run_tree import RunTree
from study.run_words import finite
from tests.study.analysis import engine_ledgers
from tests.study.tracked import SPLIT, study_records


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
        self.attached: dict[str, list[tuple[Any, list[int]]]] = {}
        self.specs: list[tuple[str, dict[str, Any]]] = []
        self.whole: set[str] = set()
        self.marked: dict[str, int] = {}
        self.data: dict[str, Any] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.models: list[tuple[str, str, str, dict[str, Any]]] = []
        self.fronts: list[tuple[str, list[Any], dict[int, Any]]] = []

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

    def is_whole(self, item: str) -> bool:
        return item in self.whole

    def mark_whole(self, run: str, tasks: int) -> None:
        self.marked[run] = tasks

    def flush(self) -> None: ...

    def write_data(
        self, run: str, name: str, sha256: str, sizes: Mapping[str, int], use: str
    ) -> None:
        self.data[run] = (name, sha256, dict(sizes), use)

    def attach_yaml(self, run: str, name: str, plain: Mapping[str, Any]) -> None:
        if name == "config.yaml":
            self.configs[run] = dict(plain)
        else:
            self.specs.append((name, dict(plain)))

    def register_model(self, run: str, folder: str, name: str, tags: Mapping[str, Any]) -> None:
        self.models.append((run, folder, name, dict(tags)))

    def attach_results(self, run: str, name: str, rank: Any, tasks: Mapping[int, Record]) -> None:
        self.attached.setdefault(run, []).append((rank, sorted(tasks)))

    def attach_front(
        self,
        run: str,
        title: str,
        objective: Mapping[str, str],
        tried: Sequence[Mapping[str, float]],
        front: Mapping[int, Mapping[str, float]],
    ) -> None:
        self.fronts.append((run, list(tried), dict(front)))

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
    assert store.attached["seed 5 (confirm) · inflora · 3 tasks"] == [(4, [1, 2, 3])]
    assert "search 01 · inflora · 3 tasks" not in store.attached


def test_records_that_come_twice_are_written_once() -> None:
    once, twice = write_all(study_records()), write_all([*study_records(), *study_records()])
    assert twice.metrics == once.metrics
    assert (twice.attached, twice.specs, twice.tags) == (once.attached, once.specs, once.tags)
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


STUDY, CELL = "engine · 1970-01-12 13:46 UTC", "inflora · 10 tasks"


def test_a_resumed_study_is_one_run_that_goes_on() -> None:
    records = engine_ledgers.resumed()
    place = next(i for i, one in enumerate(records) if one["kind"] == "resumed")
    store = write_all(records[: place + 1])
    assert store.status[STUDY] == ["KILLED", "RUNNING"]
    # A cell runs again when one of its trials does.
    assert store.status[CELL] == ["KILLED"]
    store = write_all(records)
    assert store.status[STUDY] == ["KILLED", "RUNNING", "FINISHED"]
    assert store.status[CELL] == ["KILLED", "RUNNING", "FINISHED"]
    assert store.status[f"search 01 · {CELL}"] == ["KILLED", "RUNNING", "FINISHED"]
    assert set(store.curve(f"search 01 · {CELL}", "val/accuracy")) == set(range(1, 11))
    tags = store.tags[STUDY]
    assert (tags["commit"], tags["host"], tags["sessions"]) == ("def", "other", 2)
    assert tags["mlflow.source.git.commit"] == "def"
    assert tags["wall_seconds"] == 59.0
    assert [(name, spec["seeds"]) for name, spec in store.specs] == [
        ("study.yaml", [0, 1]),
        ("study_2.yaml", [0, 1, 2]),
    ]


def test_the_wall_time_of_a_killed_session_goes_up_to_its_last_record() -> None:
    assert write_all(engine_ledgers.resumed(killed=True)).tags[STUDY]["wall_seconds"] == 56.0


def test_more_seeds_of_a_later_session_are_waited_for() -> None:
    records = engine_ledgers.resumed()
    last = max(i for i, one in enumerate(records) if one["kind"] == "end")
    assert "confirmed_seeds" not in write_all(records[:last]).tags[CELL]
    store = write_all(records[: last + 1])
    assert store.tags[CELL]["confirmed_seeds"] == 3
    values = [store.curve(f"seed {one} (confirm) · {CELL}", "test/accuracy")[4] for one in range(3)]
    assert store.curve(CELL, "test/accuracy")[4] == pytest.approx(sum(values) / 3)


def test_a_transfer_is_confirmed_without_the_seed_of_its_search() -> None:
    store = write_all(list(engine_ledgers.transferred())[:-1])
    away = "inflora · 10 tasks · gaussian · tuned on data.name=icons"
    assert store.tags[away]["confirmed_seeds"] == 2


def test_points_of_a_front_are_told_and_name_their_confirmations() -> None:
    store = write_all(engine_ledgers.several_objectives())
    tags = store.tags[CELL]
    assert tags["front points"] == 3
    assert tags["front"][1] == {
        "point": 2,
        "method.rank": 4,
        "val/accuracy": pytest.approx(0.58),
        "memory/subspace_bytes": 4e5,
    }
    names = [name for name in store.parents if "confirm" in name]
    assert names[0] == f"seed 0 (confirm, point 1) · {CELL}"
    assert names[-1] == f"seed 2 (confirm, point 3) · {CELL}"
    ((run, tried, front),) = store.fronts
    assert run == CELL
    # Pruned and failed trials are not among the settings that were tried.
    assert len(tried) == 5
    assert {"val/accuracy", "memory/subspace_bytes"} == set(tried[0])
    assert list(front) == [1, 2, 3]


def test_the_mean_over_seeds_is_of_the_winner_alone() -> None:
    store = write_all(engine_ledgers.several_objectives())
    assert store.tags[CELL]["confirmed_seeds"] == 3
    assert store.curve(CELL, "test/accuracy")[10] == pytest.approx(0.64)


def test_another_winner_of_an_extended_study_has_its_own_runs_and_mean() -> None:
    script = engine_ledgers.Script(records=engine_ledgers.resumed(), now=2e6)
    script.open("resumed", objective={"val/accuracy": "max"})
    cell = next(one["cell"] for one in script.records if one["kind"] == "cell")
    script.win(cell, 8)
    script.confirm(cell, 8, 0.75)
    store = write_all(script.finish())
    assert f"seed 0 (confirm, point 2) · {CELL}" in store.parents
    latest = {
        step: value
        for (run, key, step, _), value in store.metrics.items()
        if (run, key) == (CELL, "test/accuracy")
    }
    assert latest[10] == pytest.approx(0.75)
    assert store.tags[CELL]["best/method.rank"] == 8


def test_why_a_trial_failed_and_its_restarts_are_tags() -> None:
    store = write_all(engine_ledgers.several_objectives())
    assert store.tags[f"search 07 · {CELL}"]["reason"] == "diverged"
    assert store.tags[f"search 08 · {CELL}"]["reason"] == "out_of_memory"
    assert store.tags[f"search 01 · {CELL}"]["retries"] == 1
    assert "reason" not in store.tags[f"search 01 · {CELL}"]


def test_an_estimate_is_told_by_the_study() -> None:
    tags = write_all(engine_ledgers.several_objectives()).tags[STUDY]
    assert tags["estimate/gpu_hours"] == 0.1
    assert tags["estimate/source"] == "a probe of one task"
    assert not [key for key in tags if key.endswith(("/kind", "/time"))]


@pytest.mark.parametrize(
    "records",
    [
        engine_ledgers.resumed(),
        engine_ledgers.resumed(killed=True),
        engine_ledgers.several_objectives(("inflora", "sd_lora")),
        engine_ledgers.compared_protocols(),
    ],
)
def test_a_ledger_that_is_replayed_is_written_once(records: list[Record]) -> None:
    once = write_all(records)
    for again in ([*records, *records], [one for one in records for _ in range(2)]):
        store = write_all(again)
        assert store.metrics == once.metrics
        assert store.parents == once.parents
        assert (store.attached, store.specs) == (once.attached, once.specs)
        assert store.tags == once.tags
        assert {run: one[-1] for run, one in store.status.items()} == {
            run: one[-1] for run, one in once.status.items()
        }


def test_kinds_that_are_not_tracked_are_passed_over() -> None:
    records = study_records()
    trial = next(one["trial"] for one in records if one["kind"] == "trial")
    more = {"kind": "checkpoint", "trial": trial, "task": 1, "path": "x", "time": 0.5}
    store = write_all([*records[:4], more, {"kind": "future", "time": 0.5}, *records[4:]])
    assert store.metrics == write_all(records).metrics


def many(trials: int) -> list[Record]:
    """A study with one cell of so many confirmations of one task."""
    script = engine_ledgers.Script()
    script.open(seeds=list(range(trials)))
    cell = script.cell({"method.name": "inflora"})
    script.win(cell, 4)
    for seed in range(trials):
        script.end(script.trial(cell, "confirm", 4, 0.5, seed, tasks=1))
    return script.finish()


def test_the_work_grows_with_the_records_and_not_with_their_square() -> None:
    """Counted in calls, not in seconds: four times the trials are about four times the work."""

    def calls(records: list[Record]) -> int:
        count = 0

        def trace(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        tree = RunTree(FakeStore())
        sys.setprofile(trace)
        try:
            for record in records:
                tree.write(record)
        finally:
            sys.setprofile(None)
        return count

    assert calls(many(400)) < 5 * calls(many(100))


def test_a_trial_says_where_and_with_what_it_runs() -> None:
    records = study_records()
    trial = next(one["trial"] for one in records if one["kind"] == "trial")
    moved = [
        {**one, "host": "other"} if one.get("trial") == trial and one.get("task") == 3 else one
        for one in records
    ]
    tags = write_all(moved).tags["search 01 · inflora · 3 tasks"]
    assert (tags["host"], tags["device"]) == ("other", "NVIDIA H100")
    assert (tags["protocol"], tags["preset"], tags["commit"]) == ("whole_stream", "paper", "abc")
    assert tags["split_sha256"] == SPLIT


def test_the_protocol_of_a_cell_comes_before_the_study_s() -> None:
    tags = write_all(engine_ledgers.compared_protocols()).tags
    names = [name for name in tags if name.startswith("search 01 ·")]
    assert {tags[name]["protocol"] for name in names} == {"first_k_tasks", "whole_stream"}
    assert all(tags[name]["protocol"] in name for name in names)


def test_data_sets_are_named_with_what_they_are_used_for() -> None:
    data = write_all(study_records()).data
    sizes = {"classes": 6, "train": 60, "test": 20}
    assert data["search 01 · inflora · 3 tasks"] == ("icons", SPLIT, sizes, "training, validation")
    assert data["seed 5 (confirm) · inflora · 3 tasks"][-1] == "training, test"
    # Not known in ledgers of before.
    records = study_records()
    del records[0]["splits"]
    assert write_all(records).data == {}


def test_confirmations_keep_their_settings_and_say_where_their_checkpoint_is() -> None:
    store = write_all(study_records())
    run = "seed 5 (confirm) · inflora · 3 tasks"
    assert store.configs[run]["method.rank"] == 4
    assert (store.tags[run]["checkpoint"], store.tags[run]["checkpoint bytes"]) == ("ray/one", 12)
    assert "checkpoint" not in store.tags["search 01 · inflora · 3 tasks"]
    records = study_records()
    late = next(one for one in records if one["kind"] == "checkpoint")
    records.remove(late)
    assert write_all([*records, late]).tags[run]["checkpoint"] == "ray/one"


def test_what_the_store_holds_whole_is_not_written_again() -> None:
    records, store = study_records(), FakeStore()
    trials = [one["trial"] for one in records if one["kind"] == "trial"]
    store.whole = {trials[0], trials[2]}
    tree = RunTree(store)
    for record in records:
        tree.write(record)
    cell, whole = "inflora · 3 tasks", write_all(records)
    held = (f"search 01 · {cell}", f"seed 5 (confirm) · {cell}")
    for run in held:
        assert not {key for one, key, *_ in store.metrics if one == run}
        assert run not in {*store.status, *store.params, *store.attached, *store.data}
    # But what it measured counts for its cell.
    assert store.curve(cell, "test/accuracy") == whole.curve(cell, "test/accuracy")
    assert set(store.marked) == set(whole.marked) - set(held)


def test_only_trials_that_have_ended_for_good_are_marked_whole() -> None:
    records = engine_ledgers.resumed()
    place = next(i for i, one in enumerate(records) if one["kind"] == "resumed")
    assert f"search 01 · {CELL}" not in write_all(records[:place]).marked
    assert write_all(records).marked[f"search 01 · {CELL}"] == 10


def test_merged_weights_are_registered_for_study_and_cell() -> None:
    records = study_records()
    trial = next(one["trial"] for one in records if one.get("role") == "confirm")
    about = {"folder": "models/x", "bytes": 9, "sha256": "ab", "time": records[-1]["time"]}
    cell = next(one["cell"] for one in records if one["kind"] == "cell")
    model = {"kind": "model", "cell": cell, "trial": trial, **about}
    ((run, folder, name, tags),) = write_all([*records[:-1], model, records[-1]]).models
    assert run == "seed 5 (confirm) · inflora · 3 tasks"
    assert (folder, name) == ("models/x", "quick.inflora.3-tasks")
    assert (tags["cell"], tags["seed"], tags["sha256"]) == (cell, 5, "ab")
    assert tags["mean test/accuracy"] == pytest.approx(0.625)
