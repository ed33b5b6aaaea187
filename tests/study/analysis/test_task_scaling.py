import math

from study.analysis.evidence import NotEnough
from study.analysis.records import from_records
from study.analysis.task_scaling import curve_trends, task_count_trends
from study.analysis.trends import Trend
from tests.study.analysis import ledgers
from tests.study.analysis.made_up_trials import cell, study, trial


def test_final_values_of_cells_that_differ_in_tasks_alone_make_a_trend() -> None:
    counts = (5, 10, 20, 50)
    methods = ("inflora", "sd_lora")
    cells = [
        cell(f"{method} {count}", {"method.name": method, "data.tasks": count}, count)
        for method in methods
        for count in counts
    ]
    level = {"inflora": 0.9, "sd_lora": 0.8}
    trials = [
        trial(
            [
                {"test/accuracy": 1.0},
                {"test/accuracy": level[method] - 0.1 * math.log(count) + 0.01 * seed},
            ],
            seed,
            cell=f"{method} {count}",
        )
        for method in methods
        for count in counts
        for seed in range(3)
    ]
    found = task_count_trends(study(trials, cells), at=[100])
    assert [(one.label, one.metric) for one in found] == [
        ("inflora", "test/accuracy"),
        ("sd_lora", "test/accuracy"),
    ]
    for one, method in zip(found, methods, strict=True):
        assert isinstance(one.trend, Trend)
        assert one.cells == tuple(f"{method} {count}" for count in counts)
        assert one.trend.model == "logarithmic"
        assert one.trend.predictions[-1].extrapolated
        assert (
            abs(one.trend.predictions[-1].value - (level[method] + 0.01 - 0.1 * math.log(100)))
            < 1e-9
        )


def test_two_numbers_of_tasks_are_not_enough_and_one_is_no_trend() -> None:
    both = from_records(ledgers.made_up_study(tasks=(10, 50)))
    found = task_count_trends(both)
    accuracy = [one for one in found if one.metric == "test/accuracy"]
    assert len(accuracy) == 3
    assert all(isinstance(one.trend, NotEnough) for one in accuracy)
    assert task_count_trends(from_records(ledgers.made_up_study(tasks=(10,)))) == []


def test_curves_over_tasks_seen_are_the_cells_own() -> None:
    made_up = from_records(ledgers.made_up_study(methods=("sd_lora",), tasks=(50,)))
    found = curve_trends(made_up, made_up.cells[0].cell)
    by_metric = {one.metric: one.trend for one in found}
    accuracy, forgetting = by_metric["test/accuracy"], by_metric["test/forgetting"]
    assert isinstance(accuracy, Trend)
    assert isinstance(forgetting, Trend)
    slope = {one.name: one for one in accuracy.parameters}["b"]
    # Of the made-up study: see ledgers.accuracy.
    assert accuracy.model == "linear"
    assert slope.low <= -ledgers.SLOPE["sd_lora"] * 1.0 / 50 + 1e-12
    assert abs(slope.value + ledgers.SLOPE["sd_lora"] / 50) < 1e-9
    # Forgetting is there from the second task on.
    assert forgetting.data_range == (2, 50)
    assert "subspace/dim_free" not in by_metric
