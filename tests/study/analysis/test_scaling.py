import math

import numpy as np
import pytest
from scipy import stats

from study.analysis import scaling
from study.analysis.entities import TaskRecord, TrialRecord
from study.analysis.records import from_records
from study.analysis.scaling import Exhaustion, Interval, interval
from tests.study.analysis import ledgers


def trial(free: list[list[float]], rank: int = 4, seed: int = 0) -> TrialRecord:
    """A trial with free[t][layer] free dimensions."""
    tasks = tuple(
        TaskRecord(
            number,
            {f"subspace/dim_free/layer_{layer:02d}": dim for layer, dim in enumerate(row)},
            (0.5,) * number,
        )
        for number, row in enumerate(free, start=1)
    )
    return TrialRecord(
        "id", "cell", "confirm", {"method.rank": rank}, {}, seed, "completed", None, tasks
    )


def test_the_interval_is_students() -> None:
    found = interval([1.0, 2.0, 4.0])
    assert (found.mean, found.n) == (pytest.approx(7 / 3), 3)
    assert found.std == pytest.approx(math.sqrt(7 / 3))
    # 4.302653 is the 97.5 % quantile of t with 2 degrees of freedom.
    assert found.half == pytest.approx(4.302653 * found.std / math.sqrt(3), rel=1e-6)
    assert (found.low, found.high) == (
        pytest.approx(found.mean - found.half),
        pytest.approx(found.mean + found.half),
    )


def test_one_value_has_no_interval_and_none_has_nothing() -> None:
    one, none = interval([0.5]), interval([])
    assert (one.mean, one.n, none.n) == (0.5, 1, 0)
    assert all(math.isnan(value) for value in (one.std, one.low, one.half, none.mean, none.high))


def test_the_interval_covers_the_truth_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(0.3, 0.05, size=(2000, 3)).tolist()
    covered = sum(found.low <= 0.3 <= found.high for found in map(interval, draws))
    assert 0.935 <= covered / 2000 <= 0.965


def test_the_paired_p_is_that_of_scipy() -> None:
    first, second = [0.61, 0.58, 0.66, 0.60], [0.55, 0.57, 0.59, 0.58]
    differences = [one - other for one, other in zip(first, second, strict=True)]
    expected = stats.ttest_rel(first, second).pvalue
    assert scaling.paired(differences)[1] == pytest.approx(float(expected), rel=1e-9)
    assert math.isnan(scaling.paired([0.1])[1])


def test_rounding_is_no_difference_and_no_spread_is_no_evidence() -> None:
    # 0.1 + 0.2 − 0.3 and the like: no seed differs.
    same, p = scaling.paired([5.6e-17, -5.6e-17, 5.6e-17])
    assert same == Interval(0.0, 0.0, 0.0, 0.0, 3)
    assert p == 1.0
    (one,) = scaling.compare({"all": {"a": {0: 0.30, 1: 0.4}, "b": {0: 0.1 + 0.2, 1: 0.4}}})
    assert one.identical
    # A difference that no seed changes has no interval, however many digits its rounding spoils.
    found = {"a": {0: 0.71, 1: 0.81, 2: 0.61}, "b": {0: 0.70, 1: 0.80, 2: 0.60}}
    for methods in (found, {name: {0: one[0], 1: one[1]} for name, one in found.items()}):
        (one,) = scaling.compare({"all": methods})
        assert one.difference.mean == pytest.approx(0.01)
        assert math.isnan(one.difference.low) and math.isnan(one.difference.high)
        assert math.isnan(one.p) and math.isnan(one.p_holm)
        assert not one.enough_evidence and not one.identical
    # The scale counts: of bytes 1e-6 is rounding, of shares it is not.
    assert scaling.paired([1e-6, 1e-6, -1e-6], 1e9)[0].mean == 0.0
    assert scaling.paired([1e-6, 2e-6, 1e-6])[1] < 0.1


def test_holm_steps_down_in_the_order_given() -> None:
    assert scaling.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert scaling.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    with_gap = scaling.holm([math.nan, 0.04])
    assert math.isnan(with_gap[0])
    assert with_gap[1] == pytest.approx(0.04)


def test_methods_are_compared_on_common_seeds_within_their_group_only() -> None:
    found = scaling.compare(
        {
            "10 tasks": {
                "a": {0: 0.6, 1: 0.7, 2: 0.8},
                "b": {1: 0.51, 2: 0.59, 3: 0.0},
                "c": {9: 0.5},
            },
            "50 tasks": {"a": {0: 0.1}},
        }
    )
    assert [(one.first, one.second, one.seeds) for one in found] == [
        ("a", "b", (1, 2)),
        ("a", "c", ()),
        ("b", "c", ()),
    ]
    assert found[0].difference.mean == pytest.approx(0.2)
    assert math.isnan(found[1].p_holm)
    assert not found[1].enough_evidence


def test_seeds_that_move_both_methods_do_not_blur_their_difference() -> None:
    seeds = {0: 0.0, 1: 0.2, 2: -0.2}
    methods = {
        "a": {seed: 0.5 + shift + 0.001 * seed for seed, shift in seeds.items()},
        "b": {seed: 0.45 + shift for seed, shift in seeds.items()},
    }
    (found,) = scaling.compare({"all": methods})
    assert interval(list(methods["a"].values())).low < 0.45
    assert found.enough_evidence


def test_an_interval_with_zero_or_a_corrected_p_above_5_percent_is_not_enough() -> None:
    zero = {"a": {0: 0.5, 1: 0.7, 2: 0.4}, "b": {0: 0.6, 1: 0.5, 2: 0.45}}
    (found,) = scaling.compare({"all": zero})
    assert found.difference.low < 0 < found.difference.high
    assert not found.enough_evidence
    # Decided on its own, but not as one of many comparisons.
    close = {"a": {0: 0.50, 1: 0.53, 2: 0.51}, "b": {0: 0.40, 1: 0.45, 2: 0.44}}
    others = {f"group {number}": zero for number in range(9)}
    found = next(one for one in scaling.compare({"close": close, **others}))
    assert found.interval_decides
    assert found.p < 0.05 < found.p_holm
    assert not found.enough_evidence


def test_curves_and_matrices_are_means_over_seeds() -> None:
    study = from_records(ledgers.made_up_study(methods=("inflora",), tasks=(10,), ripple=0.0))
    trials = study.confirmations(study.cells[0].cell)
    curve = scaling.mean_curve(trials, "test/accuracy")
    assert list(curve) == list(range(1, 11))
    assert curve[5].mean == pytest.approx(ledgers.accuracy("inflora", 0, 5, 10, ripple=0.0))
    assert curve[5].std == pytest.approx(0.01)
    matrix = scaling.mean_matrix(trials)
    assert [len(row) for row in matrix] == list(range(1, 11))
    own = [one.tasks[3].accuracy_row[2] for one in trials]
    assert matrix[3][2] == pytest.approx(sum(own) / 3)
    assert scaling.mean_matrix([]) == []


def test_only_completed_trials_have_a_final_value() -> None:
    records = ledgers.made_up_study(methods=("inflora",), tasks=(10,))
    records = [one for one in records if one["kind"] != "finished"][:-1]
    study = from_records(records)
    trials = study.confirmations(study.cells[0].cell)
    assert list(scaling.final_by_seed(trials, "test/accuracy")) == [0, 1]


def test_free_dimensions_by_layer_and_their_share() -> None:
    one, other = trial([[10, 6], [8, 2]]), trial([[12, 6], [8, 4]], seed=1)
    assert scaling.by_layer([one, other]) == {
        "layer_00": {1: 11, 2: 8},
        "layer_01": {1: 6, 2: 3},
    }
    # Without dim_used the most that was ever free counts as all.
    assert scaling.free_share([one])["layer_01"] == {1: 1.0, 2: pytest.approx(1 / 3)}


def test_the_share_is_of_the_layers_width() -> None:
    study = from_records(ledgers.made_up_study(methods=("sd_lora",), tasks=(10,)))
    shares = scaling.free_share(study.confirmations(study.cells[0].cell))
    free = ledgers.free_dims("sd_lora", 0, 4, 10)
    assert shares["layer_00"][4] == pytest.approx(free / ledgers.WIDTH)


def test_the_first_exhausted_layer_is_the_earliest_in_tasks_then_in_layers() -> None:
    found = trial([[9, 9, 9], [9, 4, 4], [3, 9, 3], [3, 0, 0]], seed=7)
    assert scaling.first_exhausted([found]) == [Exhaustion("layer_00", 3, 7)]
    assert scaling.first_empty([found]) == [Exhaustion("layer_01", 4, 7)]


def test_a_space_as_large_as_the_rank_is_not_exhausted() -> None:
    assert scaling.first_exhausted([trial([[4, 4]])]) == []
    assert scaling.first_exhausted([trial([[3, 4]], rank=3)]) == []
    no_subspace = TrialRecord(
        "id", "cell", "confirm", {}, {}, 0, tasks=(TaskRecord(1, {}, (1.0,)),)
    )
    assert scaling.first_exhausted([no_subspace]) == []


def test_parts_come_in_the_order_of_their_numbers() -> None:
    metrics = {f"alpha/task_{number:02d}": 0.8 for number in (100, 2, 99, 11)}
    long = TrialRecord("id", "cell", "confirm", {}, {}, 0, tasks=(TaskRecord(1, metrics, (1.0,)),))
    assert scaling.parts([long], "alpha") == ("task_02", "task_11", "task_99", "task_100")


def test_what_a_trial_says_of_exhaustion_counts_more_than_its_rank() -> None:
    """A rank that falls with the task, or a memory that was relaxed: the free space tells less."""
    metrics = {f"subspace/dim_free/layer_{layer:02d}": 4.0 for layer in range(2)}
    flags = [
        {"subspace/exhausted_layers/layer_00": 0.0, "subspace/exhausted_layers/layer_01": flag}
        for flag in (0.0, 1.0)
    ]
    tasks = tuple(
        TaskRecord(task, {**metrics, **flag}, (1.0,)) for task, flag in enumerate(flags, start=1)
    )
    one = TrialRecord("id", "cell", "confirm", {"method.rank": 9}, {}, 3, tasks=tasks)
    assert scaling.first_exhausted([one]) == [Exhaustion("layer_01", 2, 3)]
