"""What a run says beside its metrics, and what is left out of a store that has it."""

import sys
from typing import Any

import pytest

from study.ledger import Record
from study.run_tree import RunTree
from tests.study.analysis import engine_ledgers
from tests.study.analysis.engine_ledgers import CELL_RUN, STUDY_RUN
from tests.study.fake_store import FakeStore, write_all
from tests.study.tracked import SPLIT, study_records


def test_why_a_trial_failed_and_its_restarts_are_tags() -> None:
    store = write_all(engine_ledgers.several_objectives())
    assert store.tags[f"search 07 · {CELL_RUN}"]["reason"] == "diverged"
    assert store.tags[f"search 08 · {CELL_RUN}"]["reason"] == "out_of_memory"
    assert store.tags[f"search 01 · {CELL_RUN}"]["retries"] == 1
    assert "reason" not in store.tags[f"search 01 · {CELL_RUN}"]


def test_an_estimate_is_told_by_the_study() -> None:
    tags = write_all(engine_ledgers.several_objectives()).tags[STUDY_RUN]
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
    assert f"search 01 · {CELL_RUN}" not in write_all(records[:place]).marked
    assert write_all(records).marked[f"search 01 · {CELL_RUN}"] == 10


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
