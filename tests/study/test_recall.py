"""A search that was stopped at any event and is told of the past goes on as if it had not been."""

from typing import Any

import pytest

from study.sampling import CellSearch, Proposal
from study.spec import SAMPLERS
from tests.study.searching import CONDITIONAL, FINITE, FIRST, cell_of, go_on, restored

SEVERAL = {
    "objective": {"val/accuracy": "max", "val/forgetting": "min"},
    "pruner": {"kind": "none"},
}
# GP takes a good part of a second for a proposal, once it has enough trials to learn from.
COUNTS = {"gp": 5, "grid": 18}


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_was_stopped_goes_on_as_one_that_was_not(sampler: str, width: int) -> None:
    changes: dict[str, Any] = {"search": FINITE} if sampler == "grid" else {}
    trials = COUNTS.get(sampler, 20)
    cell, spec = cell_of(sampler=sampler, trials=trials, **changes)
    first = [] if sampler == "gp" else FIRST
    whole = go_on(CellSearch(cell, spec, first), spec, [], width)
    assert len([one for one in whole if isinstance(one, Proposal)]) == trials
    for stop in range(1, len(whole), 4 if sampler == "gp" else 1):
        after = go_on(restored(cell, spec, first, whole[:stop]), spec, whole[:stop], width)
        assert after == whole, f"stopped after {stop} events"


@pytest.mark.parametrize("changes", [SEVERAL, {"search": CONDITIONAL}])
@pytest.mark.parametrize("sampler", ["tpe", "multivariate_tpe", "nsga2", "random"])
def test_so_it_does_with_several_objectives_and_conditions(
    sampler: str, changes: dict[str, Any]
) -> None:
    cell, spec = cell_of(sampler=sampler, trials=16, **changes)
    whole = go_on(CellSearch(cell, spec), spec, [], 2)
    for stop in range(0, len(whole), 3):
        after = go_on(restored(cell, spec, [], whole[:stop]), spec, whole[:stop], 2)
        assert after == whole, f"stopped after {stop} events"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_so_it_does_after_proposals_that_were_refused(sampler: str) -> None:
    cell, spec = cell_of(
        sampler=sampler,
        trials=14,
        search={
            "inflora": {
                "method.rank": {"low": 2, "high": 4},
                "method.energy": {"choices": ["sigma2", "sigma4"]},
                "method.dual": {"choices": [True, False]},
            }
        },
    )
    whole = go_on(CellSearch(cell, spec), spec, [], 1)
    numbers = [one.sampler["number"] for one in whole if isinstance(one, Proposal)]
    assert numbers != list(range(len(numbers))), "nothing was proposed twice"
    for stop in range(0, len(whole), 5):
        after = go_on(restored(cell, spec, [], whole[:stop]), spec, whole[:stop], 1)
        assert after == whole, f"stopped after {stop} events"


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
    tried = {one.trial.id for one in events if isinstance(one, Proposal)}
    assert len(tried) == 30
