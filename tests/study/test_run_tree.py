"""A study as a tree of runs: which there are, how they stand, what a cell sums up."""

import pytest

from study.run_tree import RunTree
from study.run_words import finite
from tests.study.analysis import engine_ledgers
from tests.study.analysis.engine_ledgers import CELL_RUN, STUDY_RUN
from tests.study.fake_store import FakeStore, write_all
from tests.study.tracked import study_records


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


def test_a_resumed_study_is_one_run_that_goes_on() -> None:
    records = engine_ledgers.resumed()
    place = next(i for i, one in enumerate(records) if one["kind"] == "resumed")
    store = write_all(records[: place + 1])
    assert store.status[STUDY_RUN] == ["KILLED", "RUNNING"]
    # A cell runs again when one of its trials does.
    assert store.status[CELL_RUN] == ["KILLED"]
    store = write_all(records)
    assert store.status[STUDY_RUN] == ["KILLED", "RUNNING", "FINISHED"]
    assert store.status[CELL_RUN] == ["KILLED", "RUNNING", "FINISHED"]
    assert store.status[f"search 01 · {CELL_RUN}"] == ["KILLED", "RUNNING", "FINISHED"]
    assert set(store.curve(f"search 01 · {CELL_RUN}", "val/accuracy")) == set(range(1, 11))
    tags = store.tags[STUDY_RUN]
    assert (tags["commit"], tags["host"], tags["sessions"]) == ("def", "other", 2)
    assert tags["mlflow.source.git.commit"] == "def"
    assert tags["wall_seconds"] == 59.0
    assert [(name, spec["seeds"]) for name, spec in store.specs] == [
        ("study.yaml", [0, 1]),
        ("study_2.yaml", [0, 1, 2]),
    ]


def test_the_wall_time_of_a_killed_session_goes_up_to_its_last_record() -> None:
    assert write_all(engine_ledgers.resumed(killed=True)).tags[STUDY_RUN]["wall_seconds"] == 56.0


def test_more_seeds_of_a_later_session_are_waited_for() -> None:
    records = engine_ledgers.resumed()
    last = max(i for i, one in enumerate(records) if one["kind"] == "end")
    assert "confirmed_seeds" not in write_all(records[:last]).tags[CELL_RUN]
    store = write_all(records[: last + 1])
    assert store.tags[CELL_RUN]["confirmed_seeds"] == 3
    values = [
        store.curve(f"seed {one} (confirm) · {CELL_RUN}", "test/accuracy")[4] for one in range(3)
    ]
    assert store.curve(CELL_RUN, "test/accuracy")[4] == pytest.approx(sum(values) / 3)


def test_a_transfer_is_confirmed_without_the_seed_of_its_search() -> None:
    store = write_all(list(engine_ledgers.transferred())[:-1])
    away = "inflora · 10 tasks · gaussian · tuned on data.name=icons"
    assert store.tags[away]["confirmed_seeds"] == 2


def test_points_of_a_front_are_told_and_name_their_confirmations() -> None:
    store = write_all(engine_ledgers.several_objectives())
    tags = store.tags[CELL_RUN]
    assert tags["front points"] == 3
    assert tags["front"][1] == {
        "point": 2,
        "method.rank": 4,
        "val/accuracy": pytest.approx(0.58),
        "memory/subspace_bytes": 4e5,
    }
    names = [name for name in store.parents if "confirm" in name]
    assert names[0] == f"seed 0 (confirm, point 1) · {CELL_RUN}"
    assert names[-1] == f"seed 2 (confirm, point 3) · {CELL_RUN}"
    ((run, tried, front),) = store.fronts
    assert run == CELL_RUN
    # Pruned and failed trials are not among the settings that were tried.
    assert len(tried) == 5
    assert {"val/accuracy", "memory/subspace_bytes"} == set(tried[0])
    assert list(front) == [1, 2, 3]


def test_the_mean_over_seeds_is_of_the_winner_alone() -> None:
    store = write_all(engine_ledgers.several_objectives())
    assert store.tags[CELL_RUN]["confirmed_seeds"] == 3
    assert store.curve(CELL_RUN, "test/accuracy")[10] == pytest.approx(0.64)


def test_another_winner_of_an_extended_study_has_its_own_runs_and_mean() -> None:
    script = engine_ledgers.Script(records=engine_ledgers.resumed(), now=2e6)
    script.open("resumed", objective={"val/accuracy": "max"})
    cell = next(one["cell"] for one in script.records if one["kind"] == "cell")
    script.win(cell, 8)
    script.confirm(cell, 8, 0.75)
    store = write_all(script.finish())
    assert f"seed 0 (confirm, point 2) · {CELL_RUN}" in store.parents
    latest = {
        step: value
        for (run, key, step, _), value in store.metrics.items()
        if (run, key) == (CELL_RUN, "test/accuracy")
    }
    assert latest[10] == pytest.approx(0.75)
    assert store.tags[CELL_RUN]["best/method.rank"] == 8
