from typing import Any

from study.search.cell_search import CellSearch
from study.search.order import Lengths, Order
from tests.benchmarks.simulator import Outcome, Simulation, recorded, study

METHODS = ("sd_lora", "sequential_lora", "linear_heads")


def simulate(slow: Any = lambda trial: 1.0) -> Outcome:
    """Eight slots; three methods at 10 and 20 tasks: 48 search trials, 12 confirmations."""
    plan = study(METHODS, (10, 20), trials=8, seeds=[0, 1], sampler="random")
    return Simulation(plan, 8, recorded(), slow).run()


def test_no_slot_is_free_while_a_trial_could_start() -> None:
    outcome, again = simulate(), simulate()
    assert len(outcome.launched) == len(outcome.ended) == 60
    assert outcome.missed == []
    assert outcome.busy > 0.7
    assert (again.launched, again.ended) == (outcome.launched, outcome.ended)


def test_the_tail_of_a_cell_holds_up_no_other_cell() -> None:
    """A cell a hundred times as slow: all others are searched and confirmed beside it."""
    slow = "method.name=sd_lora,data.tasks=20"
    outcome = simulate(lambda trial: 100.0 if trial.cell == slow else 1.0)
    trials = [trial for _, trial in outcome.launched]
    searches = [trial for trial in trials if (trial.cell, trial.role) == (slow, "search")]
    others = [outcome.ended[trial.id] for trial in trials if trial.cell != slow]
    assert len(others) == 50
    assert max(others) < max(outcome.ended[trial.id] for trial in searches)
    assert outcome.missed == []


def test_what_further_seeds_wait_for_is_a_chain() -> None:
    """It goes before the search of a cell that is in no contrast."""
    rounds = {
        "contrasts": ["sd_lora vs linear_heads"],
        "seeds": {"first": 3, "at_most": 15, "until": "decided"},
    }
    chosen = []
    for seeds in ({"seeds": [0, 1, 2]}, rounds):
        plan = study(METHODS, (10,), trials=20, **seeds)
        confirmed, searched = plan.cells[0], CellSearch(plan.cells[1], plan.spec)
        for number in range(19):
            # Nearly over: one trial and its confirmations are left.
            trial = plan.cells[1].trial("search", {"optim.lr": 0.01 + number / 1000}, 0)
            searched.recall(trial, {"asked": True, "number": number, "attrs": {}})
        waiting = [confirmed.trial("confirm", {}, seed) for seed in (2, 14)]
        order = Order(20, plan.cells)
        chosen.append(order.confirmation(waiting, [searched], slots=8))
    assert chosen == [None, waiting[0]]


def test_first_seeds_of_all_cells_go_before_further_ones_of_any() -> None:
    rounds = {
        "contrasts": ["sd_lora vs linear_heads"],
        "seeds": {"first": 3, "at_most": 15, "until": "decided"},
    }
    plan = study(METHODS, (10,), trials=20, **rounds)
    order, search = Order(20, plan.cells), CellSearch(plan.cells[1], plan.spec)
    further, last, first = (
        cell.trial("confirm", {}, seed)
        for cell, seed in ((plan.cells[0], 3), (plan.cells[0], 14), (plan.cells[2], 2))
    )
    assert order.confirmation([last, further, first], [], slots=1) is first
    assert order.confirmation([last, further], [], slots=1) is further, "more waits for it"
    assert order.confirmation([further] * 20, [search], slots=2) is None, "a search goes before"

    # A look waits for the last of a pair, however short that is.
    order.lengths.note(further, {"task": 1, "time/train_seconds": 100.0})
    short, later = plan.cells[2].trial("confirm", {}, 3), plan.cells[0].trial("confirm", {}, 4)
    order.lengths.note(short, {"task": 1, "time/train_seconds": 0.1})
    assert order.confirmation([later, short], [], slots=1) is short
    assert order.confirmation([short, further], [], slots=1) is further, "of a seed the longest"


def test_lengths_are_tasks_until_results_come() -> None:
    lengths = Lengths()
    plan = study(METHODS, (10, 20), seeds=[0])
    first, second, *_ = plan.cells
    trial = first.trial("search", {"optim.lr": 1e-3}, 0)
    assert lengths.of(first.id, 10) == 10
    lengths.note(trial, {"task": 1, "time/train_seconds": 2.0, "time/design_seconds": 1.0})
    lengths.note(trial, {"task": 2, "time/train_seconds": 5.0})
    lengths.note(trial, {"task": 3})  # nothing was timed
    assert lengths.of(first.id, 10) == 3 + 5 + 8 * 5
    # Of a cell without results, what the others take; of settings that ran, what those took.
    assert lengths.of(second.id, 20) == 3 + 5 + 18 * 5
    assert lengths.of_confirmation(first.trial("confirm", {"optim.lr": 1e-3}, 0)) == 10 * 4
