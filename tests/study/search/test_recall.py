"""A search that was stopped at any event and is told of the past goes on as if it had not been.

At each push it is stopped at every ninth event, nightly at all of them.
"""

from typing import Any

import pytest

from study.planning.spec import SAMPLERS
from study.search.cell_search import CellSearch, Proposal
from tests.study.search.searching import (
    CONDITIONAL,
    FINITE,
    FIRST,
    cell_of,
    go_on,
    proposals,
    restored,
)

SEVERAL = {
    "objective": {"val/accuracy": "max", "val/forgetting": "min"},
    "pruner": {"kind": "none"},
}
# GP takes a good part of a second for a proposal, once it has enough trials to learn from.
COUNTS = {"gp": 5, "grid": 18}
some_and_all = pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.nightly)])


def check_every_stop(
    width: int, every: int, first: list[dict[str, Any]], **changes: Any
) -> list[Proposal]:
    """Stops a search at events of it, and lets it go on; returns what it proposed."""
    cell, spec = cell_of(**changes)
    whole = go_on(CellSearch(cell, spec, first), spec, [], width)
    for stop in range(0, len(whole), every):
        after = go_on(restored(cell, spec, first, whole[:stop]), spec, whole[:stop], width)
        assert after == whole, f"stopped after {stop} events"
    return proposals(whole)


@some_and_all
@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_was_stopped_goes_on_as_one_that_was_not(
    sampler: str, width: int, every: int
) -> None:
    changes: dict[str, Any] = {"search": FINITE} if sampler == "grid" else {}
    trials = COUNTS.get(sampler, 20)
    first = [] if sampler == "gp" else FIRST
    found = check_every_stop(width, every, first, sampler=sampler, trials=trials, **changes)
    assert len(found) == trials


@some_and_all
@pytest.mark.parametrize("changes", [SEVERAL, {"search": CONDITIONAL}])
@pytest.mark.parametrize("sampler", ["tpe", "multivariate_tpe", "nsga2", "random"])
def test_so_it_does_with_several_objectives_and_conditions(
    sampler: str, changes: dict[str, Any], every: int
) -> None:
    check_every_stop(2, every, [], sampler=sampler, trials=16, **changes)


@some_and_all
@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_so_it_does_after_proposals_that_were_refused(sampler: str, every: int) -> None:
    space = {**FINITE["inflora"], "method.epsilon": {"choices": [0.5, 0.7]}}
    search = {"inflora": space}
    found = check_every_stop(1, every, [], sampler=sampler, trials=12, search=search)
    numbers = [proposal.sampler["number"] for proposal in found]
    assert numbers != list(range(len(numbers))), "nothing was proposed twice"


def test_a_recalled_trial_outside_of_the_space_is_counted_but_not_learned_from() -> None:
    cell, spec = cell_of(trials=3)
    search = CellSearch(cell, spec)
    old = {"method.rank": 1, "method.epsilon": 0.9, "optim.lr": 1e-3}
    trial = cell.trial("search", old, cell.search_seed)
    search.recall(trial, {"asked": True, "number": 4, "attrs": {}})
    search.tell(trial.id, {4: {"val/accuracy": 0.9}}, "completed")
    assert search.winner is not None and search.winner.trial == trial
    proposal = search.ask()
    assert proposal is not None and proposal.sampler["number"] == 5
    assert search.launched == 2


def test_a_grid_that_grew_is_gone_through_from_its_beginning() -> None:
    cell, spec = cell_of(sampler="grid", trials=18, search=FINITE)
    old = go_on(CellSearch(cell, spec), spec, [], 1)
    wider = {"inflora": {**FINITE["inflora"], "method.rank": {"low": 2, "high": 6}}}
    cell, spec = cell_of(sampler="grid", trials=30, search=wider)
    events = go_on(restored(cell, spec, [], old), spec, old, 1)
    assert len({proposal.trial.id for proposal in proposals(events)}) == 30
