import dataclasses
import math
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from study.planning import PlannedTrial
from study.sampling import CellSearch
from tests.study.small_study import small_plan


def search_of(**changes: Any) -> CellSearch:
    plan = small_plan(
        **{"grid": {"method.name": ["inflora"]}, "fixed": {"data.tasks": 4}, **changes}
    )
    return CellSearch(plan.cells[0], plan.spec)


def ask(search: CellSearch) -> PlannedTrial:
    trial = search.ask()
    assert trial is not None
    return trial


def whole(last: float) -> dict[int, float]:
    return {1: 0.9, 2: 0.8, 3: 0.7, 4: last}


def test_the_budget_ends_the_search() -> None:
    search = search_of()
    trials = [ask(search) for _ in range(3)]
    assert len({trial.id for trial in trials}) == 3
    assert search.ask() is None
    assert search.exhausted and not search.over
    for trial in trials:
        search.tell(trial.id, whole(0.5), failed=False)
    assert search.over


def test_settings_are_never_tried_twice_and_a_small_space_ends_the_search() -> None:
    search = search_of(search={"inflora": {"method.rank": {"low": 2, "high": 3}}}, trials=9)
    first, second = ask(search), ask(search)
    assert {first.searched["method.rank"], second.searched["method.rank"]} == {2, 3}
    assert search.ask() is None
    assert search.exhausted


def with_epsilons(search: CellSearch, ends: tuple[float, float]) -> CellSearch:
    """A search whose settings fit together only where epsilon <= epsilon_end."""
    space = {
        "method.epsilon": FloatDistribution(0.5, 0.9),
        "method.epsilon_end": FloatDistribution(*ends),
    }
    return CellSearch(dataclasses.replace(search.cell, space=space), search._spec)


def test_settings_that_do_not_fit_together_are_passed_over() -> None:
    search = with_epsilons(search_of(trials=6), (0.5, 0.9))
    for trial in [ask(search) for _ in range(6)]:
        assert trial.searched["method.epsilon"] <= trial.searched["method.epsilon_end"]
        search.tell(trial.id, whole(0.5), failed=False)
    assert search.refusal is not None


def test_a_space_without_valid_settings_ends_the_search() -> None:
    search = with_epsilons(search_of(), (0.1, 0.4))
    assert search.ask() is None
    assert search.over and search.winner is None
    assert search.refusal is not None and "method.epsilon_end must be" in search.refusal


def test_the_winner_is_the_best_at_the_last_task_among_those_that_got_there() -> None:
    search = search_of(trials=4)
    low, best, pruned, failed = (ask(search) for _ in range(4))
    search.tell(low.id, whole(0.4), failed=False)
    search.tell(best.id, {1: 0.1, 2: 0.1, 3: 0.1, 4: 0.5}, failed=False)
    search.tell(pruned.id, {1: 0.99, 2: 0.99}, failed=False)
    search.tell(failed.id, whole(0.99), failed=True)
    assert search.winner is not None
    assert (search.winner.trial, search.winner.value) == (best, 0.5)


def test_less_can_be_better() -> None:
    search = search_of(objective={"val/forgetting": "min"})
    trials = [ask(search) for _ in range(3)]
    for trial, value in zip(trials, (0.3, 0.1, 0.2), strict=True):
        search.tell(trial.id, whole(value), failed=False)
    assert search.winner is not None
    assert search.winner.trial == trials[1]


@pytest.mark.parametrize("curve", [{}, {1: 0.5}, {1: math.nan}, {1: 0.5, 4: math.nan}])
def test_a_trial_without_a_number_at_the_last_task_wins_nothing(curve: dict[int, float]) -> None:
    search = search_of(trials=1)
    search.tell(ask(search).id, curve, failed=False)
    assert search.over and search.winner is None


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_proposals_depend_on_numbers_and_results_only(sampler: str) -> None:
    def proposals(results: list[float]) -> list[dict[str, Any]]:
        search = search_of(sampler=sampler, trials=6)
        found = []
        for value in results:
            trial = ask(search)
            found.append(dict(trial.searched))
            search.tell(trial.id, whole(value), failed=False)
        return found

    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert proposals(rising) == proposals(rising)
    falling = proposals(rising[::-1])
    assert (falling == proposals(rising)) == (sampler == "random")


def test_a_cell_with_nothing_to_search_is_won_by_the_settings_as_they_are() -> None:
    plan = small_plan(search="none")
    assert plan.search_trials == 0
    search = CellSearch(plan.cells[0], plan.spec)
    assert search.ask() is None
    assert search.over
    winner = search.winner
    assert winner is not None and winner.value is None
    assert winner.trial.searched == {}
