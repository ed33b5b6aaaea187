from typing import Any

import pytest

from study import conditions, ranges
from study.preparation import data_configs
from study.provenance import opening_records
from study.sampling import CellSearch, Proposal
from tests.study.searching import CONDITIONAL, cell_of, go_on
from tests.study.small_study import small_plan

ENERGY = {"choices": ["sigma2", "sigma4"]}
DUAL = {"choices": [True, False]}
SHARE = {"low": 0.8, "high": 0.9}
CHAIN = {
    "method.dual": DUAL,
    "method.energy": {**ENERGY, "when": {"method.dual": True}},
    "method.epsilon": {**SHARE, "when": {"method.energy": ["sigma2", "sigma4"]}},
    "method.rank": {"when": {"method.dual": False}},
}


def plan_of(keys: Any, **changes: Any) -> Any:
    grid = {"method.name": ["inflora"], "data.tasks": [4]}
    return small_plan(grid=grid, search={"inflora": keys}, **changes)


def test_a_key_without_a_range_beside_when_takes_the_methods_own() -> None:
    cell = plan_of(CHAIN).cells[0]
    assert ranges.text(cell.space["method.rank"]) == "2 to 16 (log)"
    assert cell.conditions == {
        "method.energy": {"method.dual": (True,)},
        "method.epsilon": {"method.energy": ("sigma2", "sigma4")},
        "method.rank": {"method.dual": (False,)},
    }


@pytest.mark.parametrize("sampler", ["tpe", "multivariate_tpe", "nsga2", "random"])
def test_a_conditional_key_is_a_setting_only_where_its_condition_holds(sampler: str) -> None:
    cell, spec = cell_of(sampler=sampler, trials=16, search={"inflora": CHAIN})
    search = CellSearch(cell, spec)
    shapes = set()
    while (proposal := search.ask()) is not None:
        searched = proposal.trial.searched
        shapes.add((searched["method.dual"], *searched))
        search.tell(proposal.trial.id, {4: {"val/accuracy": 0.5}}, "completed")
    assert shapes == {
        (True, "method.dual", "method.energy", "method.epsilon"),
        (False, "method.dual", "method.rank"),
    }


def test_two_settings_are_not_told_apart_by_a_key_that_is_in_neither() -> None:
    cell, spec = cell_of(trials=16, search=CONDITIONAL)
    events = go_on(CellSearch(cell, spec), spec, [], 1)
    without = [
        one.trial.searched["method.rank"]
        for one in events
        if isinstance(one, Proposal) and one.trial.searched["method.energy"] == "sigma4"
    ]
    assert len(without) == len(set(without)) > 1


def test_the_ledger_says_when_a_key_is_searched() -> None:
    chain = {**CHAIN, "method.rank": {"when": {"method.dual": False, "method.energy": "sigma2"}}}
    _, cell = opening_records(plan_of(chain), {})
    assert cell["search"] == {
        "method.dual": "one of True, False",
        "method.energy": "one of sigma2, sigma4 when method.dual is True",
        "method.epsilon": "0.8 to 0.9 when method.energy is sigma2 or sigma4",
        "method.rank": "2 to 16 (log) when method.dual is False and method.energy is sigma2",
    }


def test_the_border_has_every_end_in_each_case_and_nothing_else() -> None:
    corners = list(plan_of(CHAIN).cells[0].corners())
    for corner in corners:
        shape = list(corner)[1:]
        full = ["method.energy", "method.epsilon"]
        assert shape == (full if corner["method.dual"] else ["method.rank"])
    for case in ("sigma2", "sigma4"):
        found = {one["method.epsilon"] for one in corners if one.get("method.energy") == case}
        assert found == {0.8, 0.9}
    assert {one["method.rank"] for one in corners if "method.rank" in one} == {2, 16}


def test_values_are_checked_where_their_condition_holds() -> None:
    # An end below the start is refused only if both are settings.
    apart = {
        "method.energy": ENERGY,
        "method.epsilon": {**SHARE, "when": {"method.energy": "sigma2"}},
        "method.epsilon_end": {"low": 0.96, "high": 0.99, "when": {"method.energy": "sigma4"}},
    }
    plan_of(apart)
    together = {**apart, "method.epsilon_end": {**SHARE, "when": {"method.energy": "sigma2"}}}
    with pytest.raises(ValueError, match=r"method.epsilon_end must be in"):
        plan_of(together)
    with pytest.raises(ValueError, match=r"method.rank must be in \[1, 16\], but got 99"):
        rank = {"low": 2, "high": 99, "when": {"method.dual": False}}
        plan_of({**CHAIN, "method.rank": rank})
    assert [one.name for one in data_configs(plan_of(apart))] == ["gaussian"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"method.rank": {"when": {"method.dual": True}}},
            r"search inflora method.rank when must name keys that are searched as well, "
            r"\['method.rank'\], but got 'method.dual'",
        ),
        (
            {"method.rank": {"when": {"method.dual": True}}, "method.dual": DUAL},
            r"when must name keys that are given before it, \[\], but got 'method.dual'",
        ),
        (
            {
                "method.dual": {**DUAL, "when": {"method.energy": "sigma2"}},
                "method.energy": {**ENERGY, "when": {"method.dual": True}},
            },
            r"method.dual when must name keys that are given before it, \[\], but got 'method.e",
        ),
        (
            {"method.dual": {**DUAL, "when": {"method.dual": True}}},
            r"method.dual when must name keys that are given before it, \[\], but got 'method.d",
        ),
        (
            {"method.rank": None, "method.epsilon": {"when": {"method.rank": 2}}},
            r"when must name keys with choices, but 'method.rank' is 2 to 16 \(log\)",
        ),
        (
            {"method.energy": ENERGY, "method.rank": {"when": {"method.energy": ["sigma3"]}}},
            r"when method.energy must be among its choices \['sigma2', 'sigma4'\], "
            r"but got 'sigma3'",
        ),
        (
            {"method.dual": DUAL, "method.rank": {"when": {"method.dual": 1}}},
            r"when method.dual must be among its choices \[True, False\], but got 1",
        ),
        (
            {"method.energy": ENERGY, "method.rank": {"when": {"method.energy": []}}},
            r"when method.energy must be among its choices .*, but got \[\]",
        ),
        (
            {"method.rank": {"when": "method.dual"}},
            r"when must map a searched key to its value or values, say .* but got 'method.dual'",
        ),
        ({"method.rank": {"when": {}}}, "when must map a searched key .* but got {}"),
        (
            {"method.dual": DUAL, "method.head": {"when": {"method.dual": True}}},
            "unknown key 'method.head'",
        ),
        (
            {"method.dual": DUAL, "method.rank": {"low": 2, "when": {"method.dual": True}}},
            "must be null, {low, high, log, step} or {choices}, each with `when` where it is "
            "needed, but got {'low': 2}",
        ),
    ],
)
def test_a_wrong_condition_is_refused(keys: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(keys)


def test_settings_are_a_point_of_the_space_with_the_keys_that_hold_only() -> None:
    cell = plan_of(CHAIN).cells[0]

    def misfit(**settings: Any) -> str | None:
        named = {f"method.{key}": value for key, value in settings.items()}
        return conditions.misfit(named, cell.space, cell.conditions)

    assert misfit(dual=False, rank=2) is None
    assert misfit(dual=True, energy="sigma2", epsilon=0.8) is None
    assert misfit(dual=True, energy="sigma2") == "method.epsilon must be given"
    where = "method.rank must be set where its condition holds only"
    assert misfit(dual=True, energy="sigma2", epsilon=0.8, rank=2) == where
    assert misfit(dual=False) == "method.rank must be given"
