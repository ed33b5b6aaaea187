"""The search of one cell: what is proposed, what ends it, and who wins."""

import dataclasses
import math
import random
import re
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from study.planning.cells import PlannedTrial
from study.search.cell_search import CellSearch, Outcome, front
from tests.study.search.searching import cell_of


def search_of(first: list[dict[str, Any]] | None = None, **changes: Any) -> CellSearch:
    return CellSearch(*cell_of(**changes), first or [])


def ask(search: CellSearch) -> PlannedTrial:
    return next(iter(search.ask, None)).trial


def curve_of(values: dict[int, float], metric: str = "val/accuracy") -> dict[int, dict[str, float]]:
    return {task: {metric: value} for task, value in values.items()}


def whole(last: float, metric: str = "val/accuracy") -> dict[int, dict[str, float]]:
    return curve_of({1: 0.9, 2: 0.8, 3: 0.7, 4: last}, metric)


@pytest.mark.parametrize("closed", [False, True])
def test_the_budget_or_a_limit_ends_the_search_but_not_its_trials(closed: bool) -> None:
    search = search_of(trials=9 if closed else 3)
    trials = [ask(search) for _ in range(3)]
    assert len({trial.id for trial in trials}) == 3
    if closed:
        search.close()
    assert search.ask() is None
    assert search.exhausted and not search.over
    for trial in trials:
        search.tell(trial.id, whole(0.5), "completed")
    assert search.over and search.winner is not None


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
@pytest.mark.parametrize("seed", range(4))
def test_every_point_of_a_small_space_is_tried(sampler: str, seed: int) -> None:
    space = {"method.rank": {"low": 1, "high": 4}, "optim.optimizer": {"choices": ["adam", "sgd"]}}
    search = search_of(search={"inflora": space}, trials=8, seeds=[seed], sampler=sampler)
    tried = set()
    while (proposal := search.ask()) is not None:
        tried.add(tuple(proposal.trial.searched.values()))
        search.tell(proposal.trial.id, whole(len(tried) / 10), "completed")
    assert len(tried) == 8 and search.exhausted


def with_epsilons(ends: tuple[float, float], first: list[dict[str, Any]]) -> CellSearch:
    """A search whose settings fit together only where epsilon <= epsilon_end."""
    cell, spec = cell_of(trials=6)
    space = {
        "method.epsilon": FloatDistribution(0.5, 0.9),
        "method.epsilon_end": FloatDistribution(*ends),
    }
    return CellSearch(dataclasses.replace(cell, space=space), spec, first)


def test_settings_that_do_not_fit_together_are_passed_over() -> None:
    search = with_epsilons((0.5, 0.9), [{"method.epsilon": 0.8, "method.epsilon_end": 0.6}])
    for trial in [ask(search) for _ in range(6)]:
        assert trial.searched["method.epsilon"] <= trial.searched["method.epsilon_end"]
        search.tell(trial.id, whole(0.5), "completed")
    assert search.refusal is not None
    assert "method.epsilon_end must be in [method.epsilon, 1] = [0.8, 1]" in search.passed_over[0]


def test_a_space_without_valid_settings_ends_the_search() -> None:
    search = with_epsilons((0.1, 0.4), [])
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


def test_less_can_be_better_and_of_equal_trials_the_first_launched_wins() -> None:
    search = search_of(objective={"val/forgetting": "min"})
    high, first, second = (ask(search) for _ in range(3))
    # Whichever ended first.
    for trial, value in ((second, 0.1), (high, 0.3), (first, 0.1)):
        search.tell(trial.id, whole(value, "val/forgetting"), "completed")
    assert search.winner is not None and search.winner.trial == first


@pytest.mark.parametrize(
    ("curve", "outcome"),
    [
        *(
            (curve_of(seen), "completed")
            for seen in ({}, {1: 0.5}, {1: math.nan}, {1: 0.5, 4: math.nan})
        ),
        # As a ledger has it.
        ({4: {"val/accuracy": None}}, "completed"),
        *((whole(0.9), outcome) for outcome in ("failed", "infeasible", "pruned")),
    ],
)
def test_what_did_not_complete_with_a_number_wins_nothing(curve: Any, outcome: Outcome) -> None:
    search = search_of(trials=1)
    search.tell(ask(search).id, curve, outcome)
    assert search.over and search.winner is None and search.front == ()


def test_a_cell_with_nothing_to_search_is_won_by_the_settings_as_they_are() -> None:
    search = search_of(search="none")
    assert search.ask() is None
    assert search.over
    winner = search.winner
    assert winner is not None and winner.value is None
    assert (winner.trial.searched, winner.values, search.front) == ({}, {}, (winner,))


SEVERAL: dict[str, Any] = {
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
    found = [(point.trial, point.value) for point in search.front]
    assert found == [(trials[1], 0.7), (trials[0], 0.5)]
    assert search.winner == search.front[0]
    assert search.front[1].values == {"val/accuracy": 0.5, "memory/subspace_bytes": 10}


def test_a_pruned_trial_stands_at_its_last_number_unless_there_are_several_objectives() -> None:
    several, single = search_of(**SEVERAL), search_of()
    metrics = {"val/accuracy": 0.5, "memory/subspace_bytes": 1.0}
    several.tell(ask(several).id, {2: metrics}, "pruned")
    assert several._known() == []
    single.tell(ask(single).id, {2: metrics, 3: {"val/accuracy": None}}, "pruned")
    single.tell(ask(single).id, curve_of({1: 0.3, 2: 0.4, 3: math.nan}), "pruned")
    single.tell(ask(single).id, curve_of({1: math.nan}), "pruned")
    assert [known.stood for known in single._known()] == [(2, 0.5), (2, 0.4)]


POINT = {"method.rank": 4, "method.epsilon": 0.9, "optim.lr": 1e-3}


def test_settings_to_try_first_come_first_and_once() -> None:
    other = {**POINT, "method.rank": 8}
    plain = search_of(trials=4)
    search = search_of([POINT, dict(reversed(POINT.items())), other], trials=4)
    proposals = list(iter(search.ask, None))
    assert [proposal.sampler["asked"] for proposal in proposals] == [False, False, True, True]
    found = [proposal.trial.searched for proposal in proposals]
    # What the sampler proposes does not depend on how much was tried before.
    assert found == [POINT, other, ask(plain).searched, ask(plain).searched]
    assert search.passed_over == []


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
    search = search_of([{**POINT, **change}, {"method.rank": 4}])
    assert ask(search) == ask(search_of())
    assert len(search.passed_over) == 2
    assert re.search(message, search.passed_over[0])
    assert search.passed_over[1] == "{'method.rank': 4}: method.epsilon must be given"


def test_a_whole_number_is_a_value_of_a_range_of_floats() -> None:
    search = search_of([{"optim.lr": 1}], search={"inflora": {"optim.lr": {"low": 0.5, "high": 2}}})
    assert type(ask(search).searched["optim.lr"]) is float


@pytest.mark.parametrize(
    ("points", "signs", "kept"),
    [
        ([], (1, -1), []),
        ([(0.5,), (0.7,), (0.7,), (0.1,)], (1,), [1]),
        ([(0.5,), (0.7,), (0.1,)], (-1,), [2]),
        ([(0.5, 1), (0.7, 3), (0.6, 3), (0.4, 2)], (1, -1), [1, 0]),
        ([(0.5, 1), (0.5, 1), (0.5, 2)], (1, -1), [0]),
        ([(1, 0, 0), (1, 0, 1), (1, 1, 0), (0, 1, 1)], (1, 1, 1), [2, 1, 3]),
    ],
)
def test_the_front(
    points: list[tuple[float, ...]], signs: tuple[int, ...], kept: list[int]
) -> None:
    assert front(points, signs) == kept


def test_it_is_what_comparing_all_pairs_gives() -> None:
    draw = random.Random(0)
    points = [tuple(draw.randrange(6) for _ in range(3)) for _ in range(60)]
    signs = (1, -1, 1)

    def better(point: tuple[int, ...], other: tuple[int, ...]) -> bool:
        gains = [s * (a - b) for s, a, b in zip(signs, point, other, strict=True)]
        return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)

    expected = {point for point in points if not any(better(other, point) for other in points)}
    found = [points[at] for at in front(points, signs)]
    assert len(found) == len(expected) and set(found) == expected
