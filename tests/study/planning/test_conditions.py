from typing import Any

import pytest

from study.errors import InvalidStudyError
from study.ledger.labels import range_text
from study.planning.data import data_configs
from study.planning.openings import opening_records
from study.search.cell_search import CellSearch, Proposal
from tests.study.search.searching import CONDITIONAL, cell_of, go_on
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
        event.trial.searched["method.rank"]
        for event in events
        if isinstance(event, Proposal) and event.trial.searched["method.energy"] == "sigma4"
    ]
    assert len(without) == len(set(without)) > 1


def test_the_ledger_says_when_a_key_is_searched_and_in_which_range() -> None:
    chain = {**CHAIN, "method.rank": {"when": {"method.dual": False, "method.energy": "sigma2"}}}
    _, cell = opening_records(plan_of(chain), {})
    assert {key: range_text(searched) for key, searched in cell["search"].items()} == {
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
        ends = {corner["method.epsilon"] for corner in corners if case in corner.values()}
        assert ends == {0.8, 0.9}
    assert {corner["method.rank"] for corner in corners if "method.rank" in corner} == {2, 16}


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
    assert [config.name for config in data_configs(plan_of(apart))] == ["gaussian"]


BROKEN: dict[str, Any] = {
    "method.dual": {**DUAL, "when": {"method.dual": True}},
    "method.energy": ENERGY,
    "method.epsilon": {"when": {"method.first_task": "reach"}},
    "method.rank": {"when": {"method.energy": ["sigma3"]}},
    "method.align": {**DUAL, "when": {"method.dual": 1}},
    "method.head_norm": {**DUAL, "when": {"method.rank": 2}},
    "method.trained": {"choices": ["up"], "when": {"method.energy": []}},
    "optim.lr": {"when": "method.dual"},
    "method.down_scale": {"low": 1, "high": 2, "when": {}},
}
SENTENCES = """
method.dual when must name keys that are given before it, [], but got 'method.dual'.
method.epsilon when must name keys that are searched as well, ['method.align', 'method.down_scale',
method.rank when method.energy must be among its choices ['sigma2', 'sigma4'], but got 'sigma3'.
method.align when method.dual must be among its choices [True, False], but got 1.
method.head_norm when must name keys with choices, but 'method.rank' is 2 to 16 (log).
method.trained when method.energy must be among its choices ['sigma2', 'sigma4'], but got [].
optim.lr when must map a searched key to its value or values, say {method.energy: sigma2}, but
method.down_scale when must map a searched key to its value or values, say {method.energy: sig
"""


def test_every_wrong_condition_is_told() -> None:
    with pytest.raises(InvalidStudyError) as error:
        plan_of(BROKEN)
    starts = SENTENCES.strip().splitlines()
    for sentence, start in zip(error.value.mistakes, starts, strict=True):
        assert sentence.startswith(f"search inflora {start}")


def test_a_condition_does_not_hide_a_wrong_range() -> None:
    when = {"when": {"method.dual": True}}
    with pytest.raises(ValueError, match=r"unknown key 'method.tail'"):
        plan_of({"method.dual": DUAL, "method.tail": when})
    with pytest.raises(ValueError, match=r"be null, .*, each with `when` .* got {'low': 2}"):
        plan_of({"method.dual": DUAL, "method.rank": {"low": 2, **when}})


def test_settings_are_a_point_of_the_space_with_the_keys_that_hold_only() -> None:
    cell = plan_of(CHAIN).cells[0]

    def misfit(**settings: Any) -> Any:
        named = {f"method.{key}": value for key, value in settings.items()}
        return cell.misfit(named)

    assert misfit(dual=False, rank=2) is None
    assert misfit(dual=True, energy="sigma2", epsilon=0.8) is None
    assert misfit(dual=True, energy="sigma2") == "method.epsilon must be given"
    where = "method.rank must be set where its condition holds only"
    assert misfit(dual=True, energy="sigma2", epsilon=0.8, rank=2) == where
    assert misfit(dual=False) == "method.rank must be given"
