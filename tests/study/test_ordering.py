from typing import Any

import pytest

from study.ordering import Lengths
from study.planning import PlannedTrial
from tests.benchmarks.simulator import Outcome, Simulation, recorded, study

METHODS = ("sd_lora", "sequential_lora", "linear_heads")


def simulate(slow: Any = lambda trial: 1.0) -> Outcome:
    """Eight slots; three methods at 10 and 20 tasks: 48 search trials, 12 confirmations."""
    plan = study(METHODS, (10, 20), trials=8, seeds=[0, 1], sampler="random")
    return Simulation(plan, 8, recorded(), slow).run()


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return simulate()


def test_no_slot_is_free_while_a_trial_could_start(outcome: Outcome) -> None:
    assert len(outcome.launched) == len(outcome.ended) == 60
    assert outcome.missed == []
    assert outcome.busy > 0.7


def test_a_simulation_repeats_itself(outcome: Outcome) -> None:
    again = simulate()
    assert again.launched == outcome.launched
    assert again.ended == outcome.ended


def test_the_tail_of_a_cell_holds_up_no_other_cell() -> None:
    """A cell a hundred times as slow: all others are searched and confirmed beside it."""
    slow = "method.name=sd_lora,data.tasks=20"
    outcome = simulate(lambda trial: 100.0 if trial.cell == slow else 1.0)
    last_search = max(
        outcome.ended[trial.id]
        for _, trial in outcome.launched
        if trial.cell == slow and trial.role == "search"
    )
    others = [outcome.ended[trial.id] for _, trial in outcome.launched if trial.cell != slow]
    assert len(others) == 50
    assert max(others) < last_search
    assert outcome.missed == []


def test_lengths_are_tasks_until_results_come() -> None:
    lengths = Lengths()
    plan = study(METHODS, (10, 20), seeds=[0])
    first, second = plan.cells[0], plan.cells[1]
    trial: PlannedTrial = first.trial("search", {"optim.lr": 1e-3}, 0)
    assert lengths.of(first.id, 10) == 10
    lengths.note(trial, {"task": 1, "time/train_seconds": 2.0, "time/design_seconds": 1.0})
    lengths.note(trial, {"task": 2, "time/train_seconds": 5.0})
    lengths.note(trial, {"task": 3})  # nothing was timed
    assert lengths.of(first.id, 10) == 3 + 5 + 8 * 5
    # Of a cell without results, what the others take; of settings that ran, what those took.
    assert lengths.of(second.id, 20) == 3 + 5 + 18 * 5
    assert lengths.of_confirmation(first.trial("confirm", {"optim.lr": 1e-3}, 0)) == 10 * 4
