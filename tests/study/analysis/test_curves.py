import pytest

from study.analysis import curves
from study.analysis.curves import FREE, SHORT, Exhaustion
from study.ledger import TrialRecord
from tests.study.histories import study_of
from tests.study.report import ledgers
from tests.study.report.made_up_trials import trial


def confirmed(method: str, gone: int = 0, **options: float) -> tuple[TrialRecord, ...]:
    """Three confirmations of 10 tasks, without the last records of the ledger."""
    records = ledgers.made_up_study(methods=(method,), tasks=(10,), **options)  # type: ignore[arg-type]
    study = study_of(records[: len(records) - gone])
    return study.confirmations(study.cells[0].cell)


def space(free: list[list[float]], seed: int = 0, rank: int = 4) -> TrialRecord:
    """A trial with free[t][layer] free dimensions."""
    rows = [{f"{FREE}/layer_{at:02d}": dim for at, dim in enumerate(row)} for row in free]
    return trial(rows, seed, {"method.rank": rank})


def test_curves_and_matrices_are_means_over_seeds() -> None:
    trials = confirmed("inflora", ripple=0.0)
    curve = curves.mean_curve(trials, "test/accuracy")
    assert list(curve) == list(range(1, 11))
    assert curve[5].mean == pytest.approx(ledgers.accuracy("inflora", 0, 5, 10, ripple=0.0))
    assert curve[5].std == pytest.approx(0.01)
    matrix = curves.mean_matrix(trials)
    assert [len(row) for row in matrix] == list(range(1, 11))
    rows = [run.tasks[3].accuracy_row[2] for run in trials]
    assert matrix[3][2] == pytest.approx(sum(rows) / 3)
    assert curves.mean_matrix([]) == []


def test_only_completed_trials_have_a_final_value() -> None:
    assert list(curves.final_by_seed(confirmed("inflora", gone=2), "test/accuracy")) == [0, 1]


def test_free_dimensions_by_layer_and_their_share() -> None:
    first, second = space([[10, 6], [8, 2]]), space([[12, 6], [8, 4]], seed=1)
    means = {"layer_00": {1: 11, 2: 8}, "layer_01": {1: 6, 2: 3}}
    assert curves.by_layer([first, second]) == means
    # Without dim_used the most that was ever free counts as all.
    assert curves.free_share([first])["layer_01"] == {1: 1.0, 2: pytest.approx(1 / 3)}
    free = ledgers.free_dims("sd_lora", 0, 4, 10)
    shares = curves.free_share(confirmed("sd_lora"))
    assert shares["layer_00"][4] == pytest.approx(free / ledgers.WIDTH)


def test_the_first_exhausted_layer_is_the_earliest_in_tasks_then_in_layers() -> None:
    short = space([[9, 9, 9], [9, 4, 4], [3, 9, 3], [3, 0, 0]], seed=7)
    assert curves.first_exhausted([short]) == [Exhaustion("layer_00", 3, 7)]
    assert curves.first_empty([short]) == [Exhaustion("layer_01", 4, 7)]
    # As much as the rank is enough, and without a subspace nothing is exhausted.
    assert curves.first_exhausted([space([[4, 4]]), space([[3, 4]], rank=3), trial([{}])]) == []


def test_what_a_trial_says_of_exhaustion_counts_more_than_its_rank() -> None:
    """A rank that falls with the task, or a memory that was relaxed: the free space tells less."""
    rows = [
        {f"{FREE}/layer_00": 4.0, f"{SHORT}/layer_00": 0.0, f"{SHORT}/layer_01": flag}
        for flag in (0.0, 1.0)
    ]
    flagged = trial(rows, 3, {"method.rank": 9})
    assert curves.first_exhausted([flagged]) == [Exhaustion("layer_01", 2, 3)]


def test_parts_come_in_the_order_of_their_numbers() -> None:
    long = trial([{f"alpha/task_{number:02d}": 0.8 for number in (100, 2, 99, 11)}])
    assert curves.layers([long], "alpha") == ("task_02", "task_11", "task_99", "task_100")
