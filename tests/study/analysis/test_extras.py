"""Pareto fronts, failures and estimates: their numbers, and how the page shows them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from study.analysis import estimates, failures, fronts, units
from study.analysis.findings import findings
from study.analysis.gallery import front_pictures
from study.analysis.records import from_records
from study.analysis.report import write_report
from study.ledger import Ledger, Record
from tests.study.analysis import engine_ledgers
from tests.study.analysis.engine_ledgers import OBJECTIVE, Script, several_objectives
from tests.study.analysis.ledgers import made_up_study


def written(records: list[Record], folder: Path) -> str:
    ledger = Ledger(folder / "ledger.jsonl")
    for record in records:
        ledger.append(record)
    ledger.close()
    return write_report(folder / "ledger.jsonl", folder / "report").read_text(encoding="utf-8")


def test_a_front_has_objectives_of_the_search_and_accuracy_of_the_confirmations() -> None:
    (front,) = findings(from_records(several_objectives())).fronts
    best = front.points[0]
    assert best.values == {
        "val/accuracy": pytest.approx(0.66),
        "memory/subspace_bytes": pytest.approx(8e5),
    }
    assert (best.final.mean, best.final.n) == (pytest.approx(0.64), 3)
    assert best.final.std == pytest.approx(0.01)
    assert best.held_bytes == pytest.approx(8e5 + 1e6)
    assert best.peak_bytes == 2e9
    assert best.seconds == pytest.approx(8.0)
    # Pruned and failed trials have no value at the end of the search.
    assert len(front.tried) == len(engine_ledgers.RANKS)


def test_the_page_has_a_table_and_a_picture_of_every_front(tmp_path: Path) -> None:
    html = written(several_objectives(("inflora", "sd_lora")), tmp_path)
    assert "<h2>Settings on the Pareto front</h2>" in html
    assert html.count("Pareto front of the search: ") == 4  # heading and alternative text
    assert "64.0 ± 2.5 (n = 3)" in html
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [len(one["points"]) for one in data["pareto_fronts"]] == [3, 3]
    assert data["pareto_fronts"][0]["points"][1]["setting"] == {"method.rank": 4}


def test_one_objective_has_no_front(tmp_path: Path) -> None:
    html = written(made_up_study(tasks=(3,), layers=1), tmp_path)
    assert "Pareto" not in html
    assert "Estimate and what happened" not in html
    assert "What the protocol costs" not in html


def test_the_picture_has_all_settings_and_a_line_through_the_front() -> None:
    tried = [{"val/accuracy": 0.5 + 0.1 * n, "memory/subspace_bytes": 1e6 * n} for n in (1, 2, 3)]
    front = {1: tried[2], 2: tried[0]}
    figure = fronts.front_picture(OBJECTIVE, tried, front, "title")
    (axes,) = figure.axes
    points, steps, marks = axes.get_lines()
    assert points.get_xdata() == pytest.approx([1, 2, 3])
    assert points.get_ydata() == pytest.approx([60, 70, 80])
    # From the least memory on: up to the next setting, the one before is the best there is.
    assert steps.get_drawstyle() == "steps-post"
    assert np.asarray(steps.get_xdata()).tolist() == pytest.approx([1, 3])
    assert np.asarray(marks.get_xdata()).tolist() == pytest.approx([3, 1])
    assert [one.get_text() for one in axes.texts] == ["1", "2"]
    assert axes.get_xlabel() == "memory/subspace_bytes, MB (less is better)"
    assert axes.get_ylabel() == "val/accuracy, % (more is better)"


def test_where_more_of_both_is_better_the_line_begins_at_the_most() -> None:
    objective = {"val/accuracy": "max", "time/images_per_second": "max"}
    front = {
        1: {"val/accuracy": 0.8, "time/images_per_second": 100.0},
        2: {"val/accuracy": 0.6, "time/images_per_second": 300.0},
    }
    (axes,) = fronts.front_picture(objective, [], front, "").axes
    assert np.asarray(axes.get_lines()[1].get_xdata()).tolist() == [300, 100]


def test_three_objectives_are_two_panels_without_a_line() -> None:
    objective = {**OBJECTIVE, "val/forgetting": "min"}
    values = {"val/accuracy": 0.8, "memory/subspace_bytes": 1e6, "val/forgetting": 0.1}
    figure = fronts.front_picture(objective, [values], {1: values}, "")
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 2]
    assert figure.axes[1].get_xlabel() == "val/forgetting, points (less is better)"


def test_a_cell_tuned_elsewhere_gets_no_picture_of_its_own() -> None:
    records = several_objectives()
    home = next(one for one in records if one["kind"] == "cell")
    away = {**home, "cell": "away", "key": {**home["key"], "data.name": "x"}}
    found = findings(from_records([*records, {**away, "tuned_in": home["cell"]}]))
    assert len(found.fronts) == 2
    assert len(front_pictures(found.fronts, OBJECTIVE)) == 1


def test_failed_trials_are_listed_with_reason_and_setting(tmp_path: Path) -> None:
    html = written(several_objectives(), tmp_path)
    assert "2 of 17 trials failed: 1 diverged; 1 infeasible: out of device memory." in html
    assert "FloatingPointError: loss is NaN at task 4, step 17" in html
    assert "method.rank=64" in html.split("All trials")[0]
    assert "1 trial had to be started again, once in all" in html
    with (tmp_path / "report" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [one["reason"] for one in rows if one["reason"]] == ["diverged", "out_of_memory"]
    assert [one["retries"] for one in rows][:2] == ["1", "0"]
    assert rows[0]["memory/subspace_bytes"] == "200000.0"


def test_of_many_failures_the_rest_is_counted(tmp_path: Path) -> None:
    script = Script()
    script.open()
    cell = script.cell({"method.name": "inflora"})
    for rank in range(25):
        lost = {"status": "failed", "error": f"loss is NaN, rank {rank}", "reason": "diverged"}
        script.end(script.trial(cell, "search", rank, 0.1, tasks=1), **lost)
    study = from_records(script.records)
    assert "The first 10 are listed; 15 more in trials.csv." in failures.failure_lines(study)
    head = written(script.records, tmp_path).split("All trials")[0]
    assert head.count("loss is NaN, rank") == 10
    # One sentence for a reason, however the messages differ.
    assert findings(study).warnings[1] == "25 of 25 trials failed (diverged): inflora (25)."


def test_a_seed_whose_confirmation_failed_is_warned_of() -> None:
    records = several_objectives()
    ends = [one for one in records if one["kind"] == "end" and "/confirm/8/" in one["trial"]]
    ends[1] |= {"status": "failed", "reason": "diverged", "error": "loss is NaN"}
    text = "\n".join(findings(from_records(records)).warnings)
    assert "inflora, 10 tasks: the confirmation failed on seed 1, so that the mean is over" in text


def test_sessions_with_other_code_are_warned_of() -> None:
    text = "\n".join(findings(from_records(engine_ledgers.resumed())).warnings)
    assert "The sessions of this study ran with different code: abc, def." in text
    assert "different versions" not in text


def test_estimates_stand_beside_what_happened() -> None:
    study = from_records(several_objectives())
    found = {one.what: one for one in estimates.estimated(study)}
    trials = found["trials"]
    assert (trials.estimate, trials.actual) == (14, 17)
    assert trials.error == pytest.approx(14 / 17 - 1)
    hours = sum(one.seconds for one in study.trials) / 3600
    # Half a GPU a trial.
    assert found["GPU hours"].actual == pytest.approx(0.5 * hours)
    assert found["wall hours"].actual == pytest.approx(50 / 3600)
    assert found["device memory of a trial, GB"].error == pytest.approx(1.5 / 2 - 1)
    assert found["hours of all trials"].actual == pytest.approx(hours)
    storage = found["checkpoints and ledger, MB"]
    assert (storage.estimate, storage.actual) == (3000, pytest.approx(9 * 2.0))
    assert estimates.estimated(from_records(made_up_study(tasks=(10,)))) == []


@pytest.mark.parametrize(("hours", "share"), [(4.0, 0.25), (None, None)])
def test_a_share_of_a_gpu_that_was_measured_is_that_of_the_estimate(
    hours: float | None, share: float | None
) -> None:
    script = Script()
    script.open(resources={"cpu": 1, "gpu": "auto"})
    script.add("estimate", gpu_hours=1.0, trial_hours=hours, source="x")
    script.confirm(script.cell({"method.name": "inflora"}), 4, 0.5)
    study = from_records(script.records)
    (found,) = [one for one in estimates.estimated(study) if one.what == "GPU hours"]
    total = sum(one.seconds for one in study.trials) / 3600
    assert found.actual == (None if share is None else pytest.approx(share * total))


def test_the_page_shows_the_estimate(tmp_path: Path) -> None:
    html = written(several_objectives(), tmp_path)
    assert "Estimated before the study ran, from a probe of one task." in html
    assert "\N{MINUS SIGN}18</td>" in html


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("val/accuracy", 0.612, "61.2"),
        ("val/forgetting", 0.1, "10.0"),
        ("memory/subspace_bytes", 2.5e6, "2.5"),
        ("time/train_seconds", 12.34, "12.34"),
        ("time/images_per_second", 900.0, "900"),
        ("val/accuracy", None, "\N{EN DASH}"),
    ],
)
def test_metrics_are_shown_in_their_units(metric: str, value: float | None, expected: str) -> None:
    assert units.text(metric, value) == expected
