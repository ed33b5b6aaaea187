import math
from itertools import product

import pytest

from study.analysis.task_scaling import curve_trends, task_count_trends
from study.evidence import NotEnough
from tests.study.histories import study_of
from tests.study.report import ledgers
from tests.study.report.made_up_trials import cell, enough, study, trial


def test_final_values_of_cells_that_differ_in_tasks_alone_make_a_trend() -> None:
    levels, counts = {"inflora": 0.9, "sd_lora": 0.8}, (5, 10, 20, 50)
    cells, trials = [], []
    for method, count in product(levels, counts):
        name = f"{method} {count}"
        cells.append(cell(name, {"method.name": method, "data.tasks": count}, count))
        for seed in range(3):
            final = levels[method] - 0.1 * math.log(count) + 0.01 * seed
            rows = [{"test/accuracy": 1.0}, {"test/accuracy": final}]
            trials.append(trial(rows, seed, cell=name))
    trends = task_count_trends(study(trials, cells), at=[100])
    assert [own.metric for own in trends] == ["test/accuracy"] * 2
    for own, method in zip(trends, levels, strict=True):
        assert (own.label, own.cells) == (method, tuple(f"{method} {count}" for count in counts))
        trend = enough(own.trend)
        assert trend.model == "logarithmic"
        *_, far = trend.predictions
        assert far.extrapolated
        assert far.value == pytest.approx(levels[method] + 0.01 - 0.1 * math.log(100))


def test_two_numbers_of_tasks_are_not_enough_and_one_is_no_trend() -> None:
    both = study_of(ledgers.made_up_study(tasks=(10, 50)))
    trends = task_count_trends(both)
    accuracy = [own for own in trends if own.metric == "test/accuracy"]
    assert len(accuracy) == 3
    assert all(isinstance(own.trend, NotEnough) for own in accuracy)
    assert task_count_trends(study_of(ledgers.made_up_study(tasks=(10,)))) == []


def test_curves_over_tasks_seen_are_the_cells_own() -> None:
    made_up = study_of(ledgers.made_up_study(methods=("sd_lora",), tasks=(50,)))
    trends = curve_trends(made_up, made_up.cells[0].cell)
    by_metric = {own.metric: own.trend for own in trends}
    accuracy = enough(by_metric["test/accuracy"])
    # Of the made-up study: see ledgers.accuracy.
    assert accuracy.model == "linear"
    slope = {parameter.name: parameter for parameter in accuracy.parameters}["b"]
    expected = -ledgers.SLOPE["sd_lora"] / 50
    assert slope.value == pytest.approx(expected) and slope.low <= expected + 1e-12
    # Forgetting is there from the second task on.
    assert enough(by_metric["test/forgetting"]).data_range == (2, 50)
    assert "subspace/dim_free" not in by_metric
