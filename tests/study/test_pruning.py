import math
from types import SimpleNamespace
from typing import Any

import pytest

from study.planning import PlannedTrial
from study.pruning import CellScheduler, Rungs
from study.spec import Pruner
from tests.study.small_study import small_plan


def test_rungs_grow_by_the_reduction_and_stop_before_the_last_task() -> None:
    assert Rungs(Pruner(first_rung=2, reduction=3), 18, 1).tasks == (2, 6)
    assert Rungs(Pruner(first_rung=2, reduction=3), 19, 1).tasks == (2, 6, 18)
    assert Rungs(Pruner(kind="none"), 50, 1).tasks == ()
    assert Rungs(Pruner(first_rung=9), 9, 1).tasks == ()


def test_the_best_share_goes_on() -> None:
    rungs = Rungs(Pruner(first_rung=2, reduction=2), 4, 1)
    assert not rungs.prunes("a", 1, 0.1)
    assert [
        rungs.prunes(trial, 2, value) for trial, value in zip("abcd", (5, 4, 6, 5), strict=True)
    ] == [
        False,  # the first
        True,  # second of two
        False,  # first of three, two go on
        False,  # second of four
    ]


def test_less_can_be_better_and_nan_is_worst() -> None:
    rungs = Rungs(Pruner(first_rung=2), 4, -1)
    assert not rungs.prunes("nan", 2, math.nan)
    assert not rungs.prunes("b", 2, 0.3)
    assert rungs.prunes("c", 2, 0.4)
    assert not rungs.prunes("d", 2, 0.2)


def test_a_value_reported_again_counts_once() -> None:
    rungs = Rungs(Pruner(first_rung=2, reduction=2), 4, 1)
    for _ in range(5):
        assert not rungs.prunes("a", 2, 0.5)
    assert not rungs.prunes("b", 2, 0.5)
    assert rungs.prunes("c", 2, 0.4)


@pytest.fixture
def decide() -> Any:
    plan = small_plan(pruner={"first_rung": 1, "reduction": 2})
    trials: dict[str, PlannedTrial] = {}
    scheduler = CellScheduler(plan.spec, trials.__getitem__)

    def report(name: str, cell: int, role: Any, value: float | None) -> str:
        searched = {"optim.lr": 1e-3 + len(trials) / 1e6}
        trials[name] = plan.cells[cell].trial(role, searched, 0)
        result = {"task": 1} if value is None else {"task": 1, "val/accuracy": value}
        return scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), result)

    return report


def test_cells_are_never_compared(decide: Any) -> None:
    assert decide("a", 0, "search", 0.9) == "CONTINUE"
    assert decide("b", 1, "search", 0.1) == "CONTINUE"
    assert decide("c", 0, "search", 0.8) == "STOP"


def test_confirmations_are_never_pruned(decide: Any) -> None:
    assert decide("a", 0, "search", 0.9) == "CONTINUE"
    assert decide("b", 0, "confirm", 0.1) == "CONTINUE"


def test_a_result_without_the_objective_is_passed_over(decide: Any) -> None:
    assert decide("a", 0, "search", 0.9) == "CONTINUE"
    assert decide("b", 0, "search", None) == "CONTINUE"
