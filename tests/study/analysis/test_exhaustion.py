from collections.abc import Callable

import numpy as np
import pytest

from study.analysis.exhaustion import LayerForecast, exhaustion_forecasts
from study.evidence.intervals import NotEnough
from study.ledger.study_records import TrialRecord
from tests.study.report.made_up_trials import LAYER, enough, trial

WIDTH, RANK = 160, 10
FREE, SHORT = f"subspace/dim_free/{LAYER}", f"subspace/exhausted_layers/{LAYER}"


def shrinking(free: Callable[[int], float], tasks: int, seed: int = 0) -> TrialRecord:
    rows = [{FREE: max(0.0, free(task))} for task in range(1, tasks + 1)]
    return trial(rows, seed, {"method.rank": RANK})


def alike(rows: list[dict[str, float]], **params: object) -> list[TrialRecord]:
    """Three trials that measured the same."""
    return [trial(rows, seed, {"method.rank": RANK, **params}) for seed in range(3)]


def three(free: Callable[[int], float], tasks: int = 50, apart: float = 0.3) -> list[TrialRecord]:
    """Three trials whose free dimensions are `apart` from each other."""

    def of_seed(seed: int) -> TrialRecord:
        return shrinking(lambda task: free(task) + apart * (seed - 1), tasks, seed)

    return [of_seed(seed) for seed in range(3)]


def straight(per_task: float, tasks: int = 50) -> list[TrialRecord]:
    """Three trials that use `per_task` dimensions a task, of slightly other widths."""
    return three(lambda task: WIDTH - per_task * task, tasks)


def forecast_of(trials: list[TrialRecord]) -> LayerForecast:
    (forecast,) = enough(exhaustion_forecasts(trials))
    return forecast


@pytest.mark.parametrize(
    ("trials", "task", "seen"),
    [
        # 160 − 4 t < 10 first at t = 38, 160 − 2 t < 10 first at t = 76.
        (straight(4.0), 38, 38),
        (straight(2.0), 76, None),
        # As many free dimensions as the rank are enough.
        (three(lambda task: 60.0 - task, apart=0.0), 51, None),
        # Fifty dimensions at once, then two a task: what follows is told by the later tasks.
        (three(lambda task: 110 + 50 * 0.3**task - 2 * task, 60), 51, 51),
    ],
    ids=["within the tasks", "beyond them", "down to the rank", "a fast beginning"],
)
def test_a_fall_is_continued_to_where_it_ends(
    trials: list[TrialRecord], task: int, seen: int | None
) -> None:
    forecast = forecast_of(trials)
    assert (forecast.task, forecast.verdict) == (task, "as predicted")
    assert forecast.extrapolated == (seen is None)
    assert forecast.observed[1].task == seen


def test_a_forecast_says_what_it_rests_on_and_how_sure_it_is() -> None:
    forecast = forecast_of(straight(4.0))
    assert (forecast.fitted_to, forecast.tasks) == (25, 50)
    assert forecast.model == "at the rate of tasks 14 to 25"
    assert 37 <= (forecast.low or 0) <= 38 <= (forecast.high or 0) <= 39


def test_a_layer_that_levels_off_may_never_run_out() -> None:
    forecast = forecast_of(three(lambda task: 60 + 100 * float(np.exp(-task / 5)), 40, 2.0))
    # It still fills a little, and would run out at that rate: the interval knows better.
    assert forecast.high is None and (forecast.low or 0) > 40
    assert forecast.verdict == "as predicted"


@pytest.mark.parametrize(
    ("later", "verdict"), [(8.0, "earlier than predicted"), (0.0, "later than predicted")]
)
def test_a_curve_that_turns_is_not_as_predicted(later: float, verdict: str) -> None:
    def free(task: int) -> float:
        return WIDTH - 4 * min(task, 25) - later * max(0, task - 25)

    assert forecast_of(three(free, apart=0.1)).verdict == verdict


def test_a_threshold_that_rises_is_said() -> None:
    rows = [{FREE: 150.0 - t, f"subspace/threshold/{LAYER}": 0.9 + t / 1000} for t in range(20)]
    assert forecast_of(alike(rows)).rising
    assert not forecast_of(straight(4.0)).rising


def test_what_is_exhausted_in_the_first_tasks_needs_no_forecast() -> None:
    forecast = forecast_of(straight(8.0))
    assert (forecast.task, forecast.verdict) == (None, "already exhausted")
    assert forecast.reason == "3 trials within the first 25 tasks"


def test_the_trials_own_word_counts() -> None:
    """A memory that was relaxed has the rank free, and says that it is exhausted."""
    rows = [{FREE: float(max(RANK, WIDTH - 4 * t)), SHORT: float(t >= 30)} for t in range(1, 41)]
    assert [seen.task for seen in forecast_of(alike(rows)).observed] == [30] * 3


def test_too_little_is_refused() -> None:
    few = exhaustion_forecasts(straight(4.0, 8))
    assert few == NotEnough("4 tasks to fit, and a forecast needs 5")
    assert isinstance(exhaustion_forecasts([trial([{"test/accuracy": 0.5}] * 9)]), NotEnough)
    two = forecast_of(straight(4.0)[:2])
    assert two.verdict == "no forecast" and "2 seeds" in two.reason
    stepped = exhaustion_forecasts(
        alike([{FREE: 100.0}] * 20, **{"method.rank_steps": ("8 at 5",)})
    )
    assert stepped == NotEnough("the rank is not the same in all tasks and trials")


@pytest.mark.nightly
@pytest.mark.slow
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
        forecast = forecast_of([noisy(seed) for seed in range(3)])
        rows = noisy(9).series(FREE)
        seen = next((task for task, dims in rows.items() if dims < RANK), None)
        ends += seen is not None
        low, high = forecast.low or 1e9, forecast.high or 1e9
        right += low <= seen <= high if seen is not None else high > 50
    assert ends > simulations / 2
    assert right / simulations >= 0.93, right / simulations
