import dataclasses
import math
import re
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from study.planning import PlannedTrial
from study.sampling import CellSearch, Outcome
from tests.study.small_study import small_plan


def search_of(**changes: Any) -> CellSearch:
    plan = small_plan(
        **{"grid": {"method.name": ["inflora"]}, "fixed": {"data.tasks": 4}, **changes}
    )
    return CellSearch(plan.cells[0], plan.spec)


def ask(search: CellSearch) -> PlannedTrial:
    proposal = search.ask()
    assert proposal is not None
    return proposal.trial


def curve_of(values: dict[int, float], metric: str = "val/accuracy") -> dict[int, dict[str, float]]:
    return {task: {metric: value} for task, value in values.items()}


def whole(last: float, metric: str = "val/accuracy") -> dict[int, dict[str, float]]:
    return curve_of({1: 0.9, 2: 0.8, 3: 0.7, 4: last}, metric)


def test_the_budget_ends_the_search() -> None:
    search = search_of()
    trials = [ask(search) for _ in range(3)]
    assert len({trial.id for trial in trials}) == 3
    assert search.ask() is None
    assert search.exhausted and not search.over
    for trial in trials:
        search.tell(trial.id, whole(0.5), "completed")
    assert search.over


def test_settings_are_never_tried_twice_and_a_small_space_ends_the_search() -> None:
    search = search_of(search={"inflora": {"method.rank": {"low": 2, "high": 3}}}, trials=9)
    first, second = ask(search), ask(search)
    assert {first.searched["method.rank"], second.searched["method.rank"]} == {2, 3}
    assert search.ask() is None
    assert search.exhausted


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
@pytest.mark.parametrize("seed", range(4))
def test_every_point_of_a_small_space_is_tried(sampler: str, seed: int) -> None:
    space = {"method.rank": {"low": 1, "high": 4}, "optim.optimizer": {"choices": ["adam", "sgd"]}}
    search = search_of(search={"inflora": space}, trials=8, seeds=[seed], sampler=sampler)
    tried = set()
    while (proposal := search.ask()) is not None:
        tried.add(tuple(proposal.trial.searched.values()))
        search.tell(proposal.trial.id, whole(len(tried) / 10), "completed")
    assert len(tried) == 8


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
        search.tell(trial.id, whole(0.5), "completed")
    assert search.refusal is not None


def test_a_space_without_valid_settings_ends_the_search() -> None:
    search = with_epsilons(search_of(), (0.1, 0.4))
    assert search.ask() is None
    assert search.over and search.winner is None
    assert search.refusal is not None and "method.epsilon_end must be" in search.refusal


def test_the_winner_is_the_best_at_the_last_task_among_those_that_got_there() -> None:
    search = search_of(trials=4)
    low, best, pruned, failed = (ask(search) for _ in range(4))
    search.tell(low.id, whole(0.4), "completed")
    search.tell(best.id, curve_of({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.5}), "completed")
    search.tell(pruned.id, curve_of({1: 0.99, 2: 0.99}), "pruned")
    search.tell(failed.id, whole(0.99), "failed")
    assert search.winner is not None
    assert (search.winner.trial, search.winner.value) == (best, 0.5)
    assert search.winner.values == {"val/accuracy": 0.5}
    assert search.front == (search.winner,)


def test_less_can_be_better() -> None:
    search = search_of(objective={"val/forgetting": "min"})
    trials = [ask(search) for _ in range(3)]
    for trial, value in zip(trials, (0.3, 0.1, 0.2), strict=True):
        search.tell(trial.id, whole(value, "val/forgetting"), "completed")
    assert search.winner is not None
    assert search.winner.trial == trials[1]


@pytest.mark.parametrize("curve", [{}, {1: 0.5}, {1: math.nan}, {1: 0.5, 4: math.nan}])
def test_a_trial_without_a_number_at_the_last_task_wins_nothing(curve: dict[int, float]) -> None:
    search = search_of(trials=1)
    search.tell(ask(search).id, curve_of(curve), "completed")
    assert search.over and search.winner is None


def test_a_cell_with_nothing_to_search_is_won_by_the_settings_as_they_are() -> None:
    plan = small_plan(search="none")
    assert plan.search_trials == 0
    search = CellSearch(plan.cells[0], plan.spec)
    assert search.ask() is None
    assert search.over
    winner = search.winner
    assert winner is not None and winner.value is None
    assert (winner.trial.searched, winner.values, search.front) == ({}, {}, (winner,))


def test_what_a_ledger_has_for_nan_is_no_number() -> None:
    search = search_of()
    search.tell(ask(search).id, {4: {"val/accuracy": None}}, "completed")
    search.tell(ask(search).id, {2: {"val/accuracy": 0.5}, 3: {"val/accuracy": None}}, "pruned")
    assert search.winner is None
    assert [known.stood for known in search._known()] == [(2, 0.5)]


@pytest.mark.parametrize("outcome", ["failed", "infeasible", "pruned"])
def test_what_did_not_complete_wins_nothing(outcome: Outcome) -> None:
    search = search_of(trials=1)
    search.tell(ask(search).id, whole(0.9), outcome)
    assert search.over and search.winner is None and search.front == ()


def test_of_equal_trials_the_first_launched_wins_whichever_ended_first() -> None:
    search = search_of()
    first, second, third = (ask(search) for _ in range(3))
    for trial in (third, second, first):
        search.tell(trial.id, whole(0.5), "completed")
    assert search.winner is not None and search.winner.trial == first


SEVERAL = {
    "objective": {"val/accuracy": "max", "memory/subspace_bytes": "min"},
    "pruner": {"kind": "none"},
}


def test_several_objectives_have_a_front() -> None:
    search = search_of(**SEVERAL, trials=6)
    trials = [ask(search) for _ in range(6)]
    reached = [(0.5, 10), (0.7, 30), (0.5, 10), (0.4, 20), (0.9, math.nan), (0.6, 30)]
    for trial, (accuracy, memory) in zip(trials, reached, strict=True):
        metrics = {"val/accuracy": accuracy, "memory/subspace_bytes": memory, "other": 1.0}
        search.tell(trial.id, {4: metrics}, "completed")
    assert [(one.trial, one.value) for one in search.front] == [(trials[1], 0.7), (trials[0], 0.5)]
    assert search.winner == search.front[0]
    assert search.front[1].values == {"val/accuracy": 0.5, "memory/subspace_bytes": 10}


def test_with_several_objectives_samplers_do_not_learn_of_pruned_trials() -> None:
    metrics = {"val/accuracy": 0.5, "memory/subspace_bytes": 1.0}
    several, one = search_of(**SEVERAL), search_of()
    for search in (several, one):
        search.tell(ask(search).id, {2: metrics}, "pruned")
    assert several._known() == []
    assert [known.stood for known in one._known()] == [(2, 0.5)]


def test_a_pruned_trial_stands_at_its_last_number() -> None:
    search = search_of()
    search.tell(ask(search).id, curve_of({1: 0.3, 2: 0.4, 3: math.nan}), "pruned")
    search.tell(ask(search).id, curve_of({1: math.nan}), "pruned")
    assert [known.stood for known in search._known()] == [(2, 0.4)]


def test_a_closed_search_proposes_nothing_more() -> None:
    search = search_of()
    trial = ask(search)
    search.close()
    assert search.ask() is None
    assert search.exhausted and not search.over
    search.tell(trial.id, whole(0.5), "completed")
    assert search.over and search.winner is not None


POINT = {"method.rank": 4, "method.epsilon": 0.9, "optim.lr": 1e-3}


def test_settings_to_try_first_come_first_and_once() -> None:
    other = {**POINT, "method.rank": 8}
    plan = search_of(trials=4)
    search = CellSearch(plan.cell, plan._spec, [POINT, dict(reversed(POINT.items())), other])
    proposals = [search.ask() for _ in range(4)]
    assert [one.trial.searched for one in proposals[:2] if one] == [POINT, other]
    assert [one.sampler["asked"] for one in proposals if one] == [False, False, True, True]
    # What the sampler proposes does not depend on how much was tried before.
    assert [one.trial.searched for one in proposals[2:] if one] == [
        ask(plan).searched for _ in range(2)
    ]
    assert search.ask() is None and search.passed_over == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method.rank": 17}, r"method.rank must be 2 to 16 \(log\), but is 17"),
        ({"method.rank": 4.0}, r"method.rank must be 2 to 16 \(log\), but is 4.0"),
        ({"optim.lr": True}, "optim.lr must be 0.0003 to 0.01"),
        ({"method.dual": True}, "method.dual must be one of the searched keys"),
    ],
)
def test_settings_outside_of_the_space_are_passed_over(
    change: dict[str, Any], message: str
) -> None:
    plan = search_of()
    search = CellSearch(plan.cell, plan._spec, [{**POINT, **change}, {"method.rank": 4}])
    assert ask(search) == ask(plan)
    assert len(search.passed_over) == 2
    assert re.search(message, search.passed_over[0])
    assert search.passed_over[1] == "{'method.rank': 4}: method.epsilon must be given"


def test_settings_to_try_first_that_do_not_fit_together_are_passed_over() -> None:
    plan = with_epsilons(search_of(), (0.5, 0.9))
    wrong = {"method.epsilon": 0.8, "method.epsilon_end": 0.6}
    search = CellSearch(plan.cell, plan._spec, [wrong])
    assert ask(search).searched != wrong
    assert "method.epsilon_end must be in [method.epsilon, 1] = [0.8, 1]" in search.passed_over[0]


def test_a_whole_number_is_a_value_of_a_range_of_floats() -> None:
    plan = search_of(search={"inflora": {"optim.lr": {"low": 0.5, "high": 2}}})
    search = CellSearch(plan.cell, plan._spec, [{"optim.lr": 1}])
    assert type(ask(search).searched["optim.lr"]) is float
