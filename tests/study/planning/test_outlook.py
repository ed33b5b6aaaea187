"""What remains of a study, against what simulated studies then took."""

from collections.abc import Sequence
from typing import Any

import pytest

from study.ledger import History
from study.planning.cells import Plan
from study.planning.costs import Remaining, remaining
from tests.benchmarks.simulator import Outcome, Simulation, recorded, study

METHODS = ("inflora", "sequential_lora", "nearest_mean")
DECIDED = {"first": 3, "at_most": 8, "until": "decided"}
LOOKS = 30


def looked_at(plan: Plan, slots: int, trials: int) -> tuple[list[tuple[float, Remaining]], Outcome]:
    """What was said to remain, by the time of a study, and what came of it."""
    seen: list[tuple[float, Remaining]] = []
    ends = [0]

    def observe(now: float, history: History) -> None:
        ends[0] += 1
        if ends[0] % max(1, trials // LOOKS) == 0:
            seen.append((now, remaining(plan, history, now)))

    lengths = {cell.id: 50 / cell.tasks for cell in plan.cells}
    # Of as many images in more tasks, each task has fewer.
    simulation = Simulation(plan, slots, recorded(), lambda trial: lengths[trial.cell], observe)
    return seen, simulation.run()


def check_times(methods: Sequence[str], tasks: Sequence[int], slots: int, **changes: Any) -> None:
    plan = study(methods, tasks, **changes)
    trials = plan.search_trials + plan.confirmation_trials
    seen, outcome = looked_at(plan, slots, trials)
    end = outcome.makespan
    # Fewer than planned where a cell has fewer settings than trials.
    trials = len(outcome.launched)
    later = [(now, left) for now, left in seen if end / 3 <= now < end]
    assert len(later) > LOOKS / 3
    inside = 0
    for now, left in later:
        assert left.seconds is not None and left.planned == trials
        # Of the last trial's last task nothing but a few seconds is left.
        if end - now > end / 50:
            assert left.seconds == pytest.approx(end - now, rel=0.3)
        inside += abs(left.seconds - (end - now)) <= left.error
    assert inside > 0.7 * len(later)


@pytest.mark.parametrize("seed", [0, 5])
def test_remaining_time_is_right_from_a_third_on(seed: int) -> None:
    seeds = [seed, seed + 1, seed + 2]
    check_times(METHODS[:2], (10, 20), 4, trials=8, seeds=seeds, sampler="random")


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [0, 5, 10])
def test_remaining_time_of_two_thousand_trials(seed: int) -> None:
    seeds = list(range(seed, seed + 5))
    check_times(tuple(recorded()), (20, 30, 40, 50), 64, trials=57, seeds=seeds)


@pytest.mark.parametrize("changes", [{"search": "none"}, {"trials": 4, "sampler": "random"}])
def test_until_decided_the_range_holds_the_truth(changes: dict[str, Any]) -> None:
    plan = study(METHODS, (10,), seeds=DECIDED, **changes)
    seen, outcome = looked_at(plan, 4, LOOKS)
    end = outcome.makespan
    assert seen[0][1].planned < seen[0][1].most_planned
    later = [(now, left) for now, left in seen if now > end / 3]
    for now, left in later:
        assert left.seconds is not None and left.most_seconds is not None
        assert left.seconds - left.error <= end - now <= left.most_seconds + left.most_error
    # Without a further seed, it would have ended long before.
    now, left = later[0]
    assert left.seconds is not None and left.seconds < (end - now) / 2


def test_before_a_task_was_measured_trials_are_counted_alone() -> None:
    plan = study(METHODS[:1], (10,), trials=4, seeds=[0, 1])
    assert remaining(plan, History(), 0.0) == Remaining(0, 0, 6, 6)
