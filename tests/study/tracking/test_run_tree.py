"""A study as a tree of runs: which there are, how they stand, what a cell sums up."""

from typing import Any

import pytest

from study.ledger import History, Record, records
from study.tracking.run_tree import RunTree
from tests.study.histories import timed
from tests.study.report import engine_ledgers
from tests.study.report.engine_ledgers import CELL_RUN, STUDY_RUN
from tests.study.tracking.fake_store import FakeStore, write_all, write_into, write_now
from tests.study.tracking.tracked import CELL, first, study_records

RUN = "inflora · 3 tasks"
SEARCH = f"search 01 · {RUN}"


@pytest.fixture(scope="module")
def quick() -> FakeStore:
    """The small study, to be looked at only."""
    return write_all(study_records())


def test_runs_form_a_tree(quick: FakeStore) -> None:
    study = "quick · 2026-11-21 12:00 UTC"
    assert quick.parents == {
        study: None,
        RUN: study,
        SEARCH: RUN,
        f"search 02 · {RUN}": RUN,
        f"seed 5 (confirm) · {RUN}": RUN,
        f"seed 6 (confirm) · {RUN}": RUN,
    }
    assert quick.tags[SEARCH]["role"] == "search"
    key = {"data.classes": 6, "method.name": "inflora", "data.tasks": 3}
    assert quick.params[RUN] == {**key, "range/method.rank": "1 to 8"}
    assert "params.`method.rank`" in quick.columns and quick.charts[0] == "test/accuracy"
    assert quick.status == {run: ["FINISHED"] for run in quick.parents}
    assert quick.tags[f"search 02 · {RUN}"]["status"] == "pruned"
    assert "memory/peak_device_bytes" not in {key for _, key, _, _ in quick.metrics}


def test_a_cell_gets_the_mean_over_seeds_and_the_winner(quick: FakeStore) -> None:
    seeds = [quick.curve(f"seed {seed} (confirm) · {RUN}", "test/accuracy") for seed in (5, 6)]
    means = {task: (seeds[0][task] + seeds[1][task]) / 2 for task in (1, 2, 3)}
    assert quick.curve(RUN, "test/accuracy") == pytest.approx(means)
    assert set(quick.curve(RUN, "test/forgetting")) == {2, 3}
    assert quick.tags[RUN]["confirmed_seeds"] == 2
    assert quick.tags[RUN]["best/method.rank"] == 4
    assert quick.curve(RUN, "best/val/accuracy") == {0: 0.7}


def test_of_search_trials_a_large_study_may_show_the_last_task_alone(quick: FakeStore) -> None:
    ledger = study_records()
    ledger[0]["spec"] |= {"tracking": {"detail": "summary", "optuna": None}}
    store = write_all(ledger)
    cut, metric = f"search 02 · {RUN}", "val/accuracy"
    assert set(quick.curve(SEARCH, metric)) == {1, 2, 3}
    assert store.curve(SEARCH, metric) == {3: quick.curve(SEARCH, metric)[3]}
    assert store.curve(cut, metric) == quick.curve(cut, metric)
    confirmed = f"seed 5 (confirm) · {RUN}"
    assert store.curve(confirmed, "test/accuracy") == quick.curve(confirmed, "test/accuracy")
    assert store.tags[SEARCH] == quick.tags[SEARCH]


def test_the_newest_look_at_a_contrast_is_a_tag_of_the_study() -> None:
    opening, *rest = study_records()
    name = "inflora vs joint, 3 tasks, test/forgetting"
    contrast = {"name": name, "first": CELL, "second": "b", "metric": "m", "non_inferiority": False}
    last: dict[str, Any] = {
        **dict.fromkeys(("mean", "std"), 1.5),
        "low": None,
        "high": None,
        "by_less_than_margin": False,
        "non_inferior": False,
        "of": [None, None],
    }
    looks = [
        records.look(name, [0, 1], verdict="undecided", reason="few_seeds", next_seeds=[2], **last),
        records.look(name, [0, 1, 2], verdict="lower", reason="", next_seeds=[], **last),
    ]
    stamped = [{**look, "time": rest[-1]["time"]} for look in looks]
    store = write_all([{**opening, "contrasts": [contrast]}, *rest[:-1], *stamped, rest[-1]])
    study, key = (
        "quick · 2026-11-21 12:00 UTC",
        "contrast/inflora vs joint 3 tasks test/forgetting",
    )
    assert store.tags[study][key] == "lower, 3 pairs of seeds"
    # Pairs of seeds are its steps; an interval that is not there has none.
    assert store.curve(study, f"{key}/mean") == {2: 1.5, 3: 1.5}
    assert store.curve(study, f"{key}/low") == {}


def test_a_cell_that_was_not_searched_has_no_best_trial() -> None:
    nothing: Record = {"searched": {}, "value": None}
    store = write_all(
        {**record, **nothing} if "searched" in record else record
        for record in study_records()
        if record["kind"] == "winner" or not record.get("trial", "").endswith(("0", "1"))
    )
    assert store.tags[RUN]["best trial"] == "none"
    assert store.curve(RUN, "best/val/accuracy") == {}
    assert store.tags[RUN]["confirmed_seeds"] == 2


@pytest.mark.parametrize(
    "ledger",
    [
        study_records(),
        engine_ledgers.resumed(),
        engine_ledgers.resumed(killed=True),
        engine_ledgers.several_objectives(("inflora", "sd_lora")),
        engine_ledgers.compared_protocols(),
    ],
)
def test_what_is_written_again_is_there_once(ledger: list[Record]) -> None:
    """As where an answer was lost; and into a store that holds it, or half of it."""
    once, retried, replayed = write_all(ledger), FakeStore(), FakeStore()
    write_into(retried, ledger, times=2)
    for known in (ledger[: len(ledger) // 2], ledger, ledger):
        write_into(replayed, known)
    for store in (retried, replayed):
        for name in ("parents", "tags", "params", "metrics", "attached", "last_status"):
            assert getattr(store, name) == getattr(once, name)


def test_an_interrupted_trial_goes_on() -> None:
    ledger = study_records()
    ended = first("end", ledger)
    trial = ledger[ended]["trial"]
    cut = timed([records.end(trial, "interrupted"), records.continued(trial, 2)])
    store = write_all([*ledger[: ended - 1], *cut, *ledger[ended - 1 :]])
    assert store.status[SEARCH] == ["KILLED", "RUNNING", "FINISHED"]
    assert set(store.curve(SEARCH, "val/accuracy")) == {1, 2, 3}


def test_warnings_are_a_tag_of_the_study() -> None:
    ledger = study_records()
    more = timed([records.warning("first"), records.warning("second")])
    store = write_all([*ledger[:2], *more, *ledger[2:]])
    assert store.tags["quick · 2026-11-21 12:00 UTC"]["warnings"] == "first\nsecond"


def test_trials_left_running_are_killed_by_the_end_of_the_study() -> None:
    ledger = study_records()
    store = write_all([*ledger[: first("end", ledger)], {**ledger[-1], "status": "interrupted"}])
    assert store.status == {run: ["KILLED"] for run in store.parents}
    assert not store.whole


def test_only_what_was_not_taken_is_missing() -> None:
    ledger = study_records()
    store, history = FakeStore(), History()
    tree = RunTree(store, history)
    store.away = True
    for record in ledger[:5]:  # study, cell, trial and its first two tasks
        history.add(record)
        with pytest.raises(ConnectionError):
            tree.write(record)
    store.away = False
    for record in ledger[5:]:
        history.add(record)
        write_now(tree, record)
    whole = write_all(ledger)
    assert (store.parents, store.params) == (whole.parents, whole.params)
    assert set(store.curve(SEARCH, "val/accuracy")) == {3}


def test_a_task_of_an_unknown_trial_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        RunTree(FakeStore(), History()).write(records.task("x", 1, {}, [0.5]))


def test_a_cell_without_a_winner_says_why() -> None:
    reason = timed([records.failed_cell(CELL, "none saw all tasks")])
    assert write_all([*study_records()[:2], *reason]).tags[RUN]["error"] == "none saw all tasks"


def test_a_resumed_study_is_one_run_that_goes_on() -> None:
    ledger = engine_ledgers.resumed()
    store = write_all(ledger[: first("resumed", ledger) + 1])
    assert store.status[STUDY_RUN] == ["KILLED", "RUNNING"]
    # A cell runs again when one of its trials does.
    assert store.status[CELL_RUN] == ["KILLED"]
    search = f"search 01 · {CELL_RUN}"
    assert search not in store.whole
    store = write_all(ledger)
    for run in (STUDY_RUN, CELL_RUN, search):
        assert store.status[run] == ["KILLED", "RUNNING", "FINISHED"]
    assert set(store.curve(search, "val/accuracy")) == set(range(1, 11))
    assert store.whole[search] == 10
    tags = store.tags[STUDY_RUN]
    assert (tags["commit"], tags["host"], tags["sessions"]) == ("def", "other", 2)
    assert tags["mlflow.source.git.commit"] == "def"
    assert tags["wall_seconds"] == 59.0
    specs = store.attached[STUDY_RUN]
    assert list(specs) == ["study.yaml", "study_2.yaml"]
    assert "seeds:\n- 0\n- 1\nresources" in specs["study.yaml"]
    assert "seeds:\n- 0\n- 1\n- 2\nresources" in specs["study_2.yaml"]

    # The wall time of a killed session goes up to its last record.
    assert write_all(engine_ledgers.resumed(killed=True)).tags[STUDY_RUN]["wall_seconds"] == 56.0


def test_more_seeds_of_a_later_session_are_waited_for() -> None:
    ledger = engine_ledgers.resumed()
    last = max(at for at, record in enumerate(ledger) if record["kind"] == "end")
    assert "confirmed_seeds" not in write_all(ledger[:last]).tags[CELL_RUN]
    store = write_all(ledger[: last + 1])
    assert store.tags[CELL_RUN]["confirmed_seeds"] == 3
    values = [
        store.curve(f"seed {seed} (confirm) · {CELL_RUN}", "test/accuracy")[4] for seed in range(3)
    ]
    assert store.curve(CELL_RUN, "test/accuracy")[4] == pytest.approx(sum(values) / 3)


def test_a_transfer_is_confirmed_without_the_seed_of_its_search() -> None:
    store = write_all(engine_ledgers.transferred()[:-1])
    away = "inflora · 10 tasks · gaussian · tuned on data.name=icons"
    assert store.tags[away]["confirmed_seeds"] == 2


def test_points_of_a_front_are_told_and_name_their_confirmations() -> None:
    fronts = write_all(engine_ledgers.several_objectives())
    tags = fronts.tags[CELL_RUN]
    assert tags["front points"] == 3
    values = {"val/accuracy": pytest.approx(0.58), "memory/subspace_bytes": 4e5}
    assert tags["front"][1] == {"point": 2, "method.rank": 4, **values}
    names = [name for name in fronts.parents if "confirm" in name]
    assert names[0] == f"seed 0 (confirm, point 1) · {CELL_RUN}"
    assert names[-1] == f"seed 2 (confirm, point 3) · {CELL_RUN}"
    objective, tried, front, title = fronts.attached[CELL_RUN]["front.png"]
    assert (objective, title) == (engine_ledgers.OBJECTIVE, CELL_RUN)
    # Pruned and failed trials are not among the settings that were tried.
    assert len(tried) == 5
    assert {"val/accuracy", "memory/subspace_bytes"} == set(tried[0])
    assert list(front) == [1, 2, 3]

    # The mean over the seeds is of the winner alone.
    assert tags["confirmed_seeds"] == 3
    assert fronts.curve(CELL_RUN, "test/accuracy")[10] == pytest.approx(0.64)


def test_another_winner_of_an_extended_study_has_its_own_runs_and_mean() -> None:
    script = engine_ledgers.Script(now=2e6, records=engine_ledgers.resumed())
    script.open("resumed", objective={"val/accuracy": "max"})
    cell = next(record["cell"] for record in script.records if record["kind"] == "cell")
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
