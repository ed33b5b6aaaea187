from collections.abc import Callable

import numpy as np
import pytest

from study.analysis.entities import TrialRecord
from study.analysis.evidence import NotEnough
from study.analysis.exhaustion import LayerForecast, exhaustion_forecasts, forecast_text
from tests.study.analysis.made_up_trials import LAYER, trial

WIDTH, RANK = 160, 10
FREE, SHORT = f"subspace/dim_free/{LAYER}", f"subspace/exhausted_layers/{LAYER}"


def shrinking(free: Callable[[int], float], tasks: int, seed: int = 0) -> TrialRecord:
    rows = [{FREE: max(0.0, free(task))} for task in range(1, tasks + 1)]
    return trial(rows, seed, {"method.rank": RANK})


def only(found: list[LayerForecast] | NotEnough) -> LayerForecast:
    assert isinstance(found, list), found
    (one,) = found
    return one


def three(free: Callable[[int], float], tasks: int, apart: float) -> list[TrialRecord]:
    """Three trials whose free dimensions are `apart` from each other."""

    def of_seed(seed: int) -> TrialRecord:
        return shrinking(lambda task: free(task) + apart * (seed - 1), tasks, seed)

    return [of_seed(seed) for seed in range(3)]


def straight(per_task: float, tasks: int) -> list[TrialRecord]:
    """Three trials that use `per_task` dimensions a task, of slightly other widths."""
    return three(lambda task: WIDTH - per_task * task, tasks, 0.3)


def test_a_straight_fall_is_continued_to_where_it_was_seen_to_end() -> None:
    one = only(exhaustion_forecasts(straight(4.0, 50)))
    # 160 − 4 t < 10 first at t = 38.
    assert (one.task, one.fitted_to, one.tasks) == (38, 25, 50)
    assert one.model == "at the rate of tasks 14 to 25"
    assert one.low is not None
    assert one.high is not None
    assert 37 <= one.low <= 38 <= one.high <= 39
    assert [other.task for other in one.observed] == [38, 38, 38]
    assert one.verdict == "as predicted"
    assert not one.extrapolated
    assert "after task 38" in forecast_text(one)


def test_what_is_foretold_beyond_the_tasks_is_marked() -> None:
    half, all_tasks = (only(exhaustion_forecasts(straight(2.0, 50), share)) for share in (0.5, 1.0))
    # 160 − 2 t < 10 first at t = 76.
    for one, fitted_to in ((half, 25), (all_tasks, 50)):
        assert one.fitted_to == fitted_to
        assert one.task == 76
        assert one.extrapolated
        assert [other.task for other in one.observed] == [None] * 3
        assert one.verdict == "as predicted"
    assert "extrapolated" in forecast_text(all_tasks)


def test_a_layer_that_levels_off_may_never_run_out() -> None:
    trials = three(lambda task: 60 + 100 * float(np.exp(-task / 5)), 40, 2.0)
    one = only(exhaustion_forecasts(trials))
    # It still fills a little, and would run out at that rate: the interval knows better.
    assert one.high is None
    assert one.low is not None
    assert one.low > 40
    assert one.verdict == "as predicted"
    assert "to not within 400 tasks" in forecast_text(one)


@pytest.mark.parametrize(
    ("later", "verdict"), [(8.0, "earlier than predicted"), (0.0, "later than predicted")]
)
def test_a_curve_that_turns_is_not_as_predicted(later: float, verdict: str) -> None:
    def free(task: int) -> float:
        return WIDTH - 4 * min(task, 25) - later * max(0, task - 25)

    trials = three(free, 50, 0.1)
    assert only(exhaustion_forecasts(trials)).verdict == verdict


def test_a_fast_beginning_is_not_taken_for_the_rate() -> None:
    """Fifty dimensions at once, then two a task: what follows is told by the later tasks."""
    one = only(exhaustion_forecasts(three(lambda t: 110 + 50 * 0.3**t - 2 * t, 60, 0.3)))
    assert one.task == 51
    assert one.verdict == "as predicted"


def test_as_many_free_dimensions_as_the_rank_are_enough() -> None:
    one = only(exhaustion_forecasts(three(lambda task: 60.0 - task, 50, 0.0)))
    assert one.task == 51
    assert [other.task for other in one.observed] == [None] * 3


def test_a_threshold_that_rises_is_said() -> None:
    rows = [{FREE: 150.0 - t, f"subspace/threshold/{LAYER}": 0.9 + t / 1000} for t in range(20)]
    trials = [trial(rows, seed, {"method.rank": RANK}) for seed in range(3)]
    one = only(exhaustion_forecasts(trials))
    assert one.rising
    assert "the threshold changes with the task" in forecast_text(one)
    assert not only(exhaustion_forecasts(straight(4.0, 50))).rising


def test_what_is_exhausted_in_the_first_tasks_needs_no_forecast() -> None:
    one = only(exhaustion_forecasts(straight(8.0, 50)))
    assert one.verdict == "already exhausted"
    assert one.task is None
    assert one.reason == "3 trials within the first 25 tasks"
    assert "3 of 3 trials ran out within 50 tasks" in forecast_text(one)


def test_the_trials_own_word_counts() -> None:
    """A memory that was relaxed has the rank free, and says that it is exhausted."""
    rows = [{FREE: float(max(RANK, WIDTH - 4 * t)), SHORT: float(t >= 30)} for t in range(1, 41)]
    trials = [trial(rows, seed, {"method.rank": RANK}) for seed in range(3)]
    assert [other.task for other in only(exhaustion_forecasts(trials)).observed] == [30] * 3


def test_too_little_is_refused() -> None:
    few = exhaustion_forecasts(straight(4.0, 8))
    assert few == NotEnough("4 tasks to fit, and a forecast needs 5")
    assert isinstance(exhaustion_forecasts([trial([{"test/accuracy": 0.5}] * 9)]), NotEnough)
    two = only(exhaustion_forecasts(straight(4.0, 50)[:2]))
    assert two.verdict == "no forecast"
    assert "2 seeds" in two.reason
    stepped = [
        trial([{FREE: 100.0}] * 20, seed, {"method.rank": 10, "method.rank_steps": ("8 from 5",)})
        for seed in range(3)
    ]
    assert exhaustion_forecasts(stepped) == NotEnough(
        "the rank is not the same in all tasks and trials"
    )
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], but got share=0"):
        exhaustion_forecasts(stepped, share=0)


@pytest.mark.parametrize("lasting", [1e9, 60.0], ids=["even", "slowing"])
def test_the_interval_holds_the_task_of_a_further_trial(lasting: float) -> None:
    """Dimensions add up task by task, so that a curve keeps what chance did to it."""
    random = np.random.default_rng(0)
    simulations, right, ends = 200, 0, 0

    def noisy(seed: int) -> TrialRecord:
        rate = random.normal(4.5 if lasting < 1e3 else 4.0, 0.15)
        used = rate * np.exp(-np.arange(50) / lasting) + random.normal(0, 0.7, 50)
        free = WIDTH - np.round(np.cumsum(np.maximum(used, 0)))
        return shrinking(lambda task: float(free[task - 1]), 50, seed)

    for _ in range(simulations):
        one = only(exhaustion_forecasts([noisy(seed) for seed in range(3)]))
        rows = noisy(9).series(FREE)
        seen = next((task for task, dims in rows.items() if dims < RANK), None)
        ends += seen is not None
        low, high = one.low or 1e9, one.high or 1e9
        right += low <= seen <= high if seen is not None else high > 50
    assert ends > simulations / 2
    assert right / simulations >= 0.93, right / simulations
