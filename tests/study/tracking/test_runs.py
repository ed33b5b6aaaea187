"""What a run says beside its metrics, and what is left out of a store that has it."""

import sys
from typing import Any

import pytest

from study.ledger import Record, records
from study.tracking.runs import finite
from tests.study.histories import timed
from tests.study.report import engine_ledgers
from tests.study.report.engine_ledgers import CELL_RUN, STUDY_RUN
from tests.study.tracking.fake_store import write_all, write_into
from tests.study.tracking.tracked import CELL, SPLIT, study_records

RUN = "inflora · 3 tasks"
SEARCH, CONFIRMATION = f"search 01 · {RUN}", f"seed 5 (confirm) · {RUN}"


def test_why_a_trial_failed_its_restarts_and_the_estimate_are_tags() -> None:
    tags = write_all(engine_ledgers.several_objectives()).tags
    assert tags[f"search 07 · {CELL_RUN}"]["reason"] == "diverged"
    assert tags[f"search 08 · {CELL_RUN}"]["reason"] == "out_of_memory"
    assert tags[f"search 01 · {CELL_RUN}"]["retries"] == 1
    assert "reason" not in tags[f"search 01 · {CELL_RUN}"]
    study = tags[STUDY_RUN]
    assert study["estimate/gpu_hours"] == 0.1
    assert study["estimate/source"] == "a probe of one task"
    assert not [key for key in study if key.endswith(("/kind", "/time"))]


def test_kinds_that_are_not_tracked_are_passed_over() -> None:
    ledger = study_records()
    more = [records.note(CELL, "not tried first"), {"kind": "future"}]
    store = write_all([*ledger[:4], *timed(more), *ledger[4:]])
    assert store.metrics == write_all(ledger).metrics


def many(trials: int) -> list[Record]:
    """A study with one cell of so many confirmations of one task."""
    script = engine_ledgers.Script()
    script.open(seeds=list(range(trials)))
    cell = script.cell({"method.name": "inflora"}, seeds=list(range(trials)))
    script.win(cell, 4)
    for seed in range(trials):
        script.end(script.trial(cell, "confirm", 4, 0.5, seed, tasks=1))
    return script.finish()


def test_the_work_grows_with_the_records_and_not_with_their_square() -> None:
    """Counted in calls, not in seconds: four times the trials are about four times the work."""

    def calls(ledger: list[Record]) -> int:
        count = 0

        def trace(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(trace)
        try:
            write_all(ledger)
        finally:
            sys.setprofile(None)
        return count

    assert calls(many(400)) < 5 * calls(many(100))


def test_a_trial_says_where_it_runs_now() -> None:
    ledger = study_records()
    # The last task of the first trial.
    ledger[5]["host"] = "other"
    tags = write_all(ledger).tags[SEARCH]
    assert (tags["host"], tags["device"]) == ("other", "NVIDIA H100")


def test_the_protocol_of_a_cell_comes_before_the_study_s() -> None:
    tags = write_all(engine_ledgers.compared_protocols()).tags
    names = [name for name in tags if name.startswith("search 01 ·")]
    assert {tags[name]["protocol"] for name in names} == {"first_k_tasks", "whole_stream"}
    assert all(tags[name]["protocol"] in name for name in names)


def test_data_sets_are_named_with_what_they_are_used_for() -> None:
    ledger, sizes = study_records(), {"classes": 6, "train": 60, "test": 20}
    data = write_all(ledger).data
    assert data[SEARCH] == ("icons", SPLIT, sizes, "training, validation")
    assert data[CONFIRMATION].use == "training, test"
    # Not known in ledgers of before.
    ledger[0]["splits"] = {}
    assert write_all(ledger).data == {}


def test_confirmations_keep_settings_results_and_where_their_checkpoint_is() -> None:
    ledger = study_records()
    store = write_all(ledger)
    kept = store.attached[CONFIRMATION]
    assert "method.rank: 4\n" in kept["config.yaml"]
    assert kept["accuracy_matrix.csv"].splitlines()[1] == "1,0.9,,"
    rows, title = kept["accuracy_matrix.png"]
    assert ([len(row) for row in rows], title) == ([1, 2, 3], CONFIRMATION)
    layers, rank, _ = kept["free_dimensions.png"]
    assert (layers["layer_00"], rank) == ({1: 12, 2: 8, 3: 4}, 4)
    tags = store.tags[CONFIRMATION]
    assert (tags["checkpoint"], tags["checkpoint bytes"]) == ("ray/one", 12)
    assert SEARCH not in store.attached and "checkpoint" not in store.tags[SEARCH]
    late = next(record for record in ledger if record["kind"] == "checkpoint")
    ledger.remove(late)
    assert write_all([*ledger, late]).tags[CONFIRMATION]["checkpoint"] == "ray/one"


def test_scores_by_batch_are_said_with_the_setting_in_every_run() -> None:
    """As such trials report it: a metric of each task, and the key among the run's params."""
    ledger = study_records()
    for record in ledger:
        if record["kind"] == "trial":
            record["params"]["method.vote"] = "batch"
        elif record["kind"] == "task":
            record["metrics"]["prompt/scores_by_batch"] = 1.0
    store = write_all(ledger)
    for run in (SEARCH, CONFIRMATION):
        assert store.params[run]["method.vote"] == "batch"
        assert store.curve(run, "prompt/scores_by_batch") == {1: 1.0, 2: 1.0, 3: 1.0}
    # And over the seeds, in the run of the cell.
    assert store.curve(RUN, "prompt/scores_by_batch")[3] == 1.0


def test_what_the_store_holds_whole_is_not_written_again() -> None:
    ledger = study_records()
    first = write_all(ledger)
    again = write_all(ledger)
    for kept in (again.metrics, again.status, again.params, again.attached, again.data):
        kept.clear()
    del again.tags[f"seed 6 (confirm) · {RUN}"]["tasks"]
    write_into(again, ledger)
    held = {name for name in first.whole if not name.startswith("seed 6")}
    assert len(held) == 3
    runs = {run for run, *_ in again.metrics}
    runs |= {*again.status, *again.params, *again.attached, *again.data}
    assert runs == set(first.parents) - held
    # But what it measured counts for its cell.
    assert again.curve(RUN, "test/accuracy") == first.curve(RUN, "test/accuracy")
    assert again.tags == first.tags


def test_merged_weights_are_registered_for_study_and_cell() -> None:
    ledger = study_records()
    trial = next(record["trial"] for record in ledger if record.get("role") == "confirm")
    model = timed([records.model(CELL, trial, "models/x", 9, "ab")])
    models = write_all([*ledger[:-1], *model, ledger[-1]]).models
    folder, name, tags = models[CONFIRMATION]
    assert (len(models), folder, name) == (1, "models/x", "quick.inflora.3-tasks")
    assert (tags["cell"], tags["seed"], tags["sha256"]) == (CELL, 5, "ab")
    assert tags["mean test/accuracy"] == pytest.approx(0.625)


def test_only_finite_metrics_are_written() -> None:
    assert finite({"a": None, "b": float("nan"), "c": 1}) == {"c": 1.0}
