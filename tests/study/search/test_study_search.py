"""Which trial runs next, over all cells of a study, and what ends a search."""

import dataclasses
import math

import pytest
from optuna.distributions import FloatDistribution

from study.ledger import CellTimes, Record, records
from study.planning.sections import Budget
from study.search.study_search import HOUR, NODE_LOSSES, Start, spent
from tests.study.histories import facts
from tests.study.search.driven_study import DrivenStudy

CELL = "method.name=inflora,data.tasks=2"
ONE_CELL = {"method.name": ["inflora"], "data.tasks": [2]}


def test_long_cells_first_searches_alternate_confirmation_at_once() -> None:
    trials = DrivenStudy(trials=2).run(0.5)
    assert len({trial["trial"] for trial in trials}) == len(trials)
    confirmations = [trial for trial in trials if trial["role"] == "confirm"]
    assert {trial["params"]["data.evaluation"] for trial in confirmations} == {"test"}
    assert [trial["seed"] for trial in confirmations] == [0, 1] * 4
    launched = [(trial["cell"], trial["role"]) for trial in trials]
    expected = []
    for tasks in (4, 2):
        first, second = (
            f"method.name={name},data.tasks={tasks}" for name in ("inflora", "sd_lora")
        )
        expected += [(first, "search"), (second, "search"), (first, "search")]
        expected += [(first, "confirm")] * 2 + [(second, "search")] + [(second, "confirm")] * 2
    assert launched == expected


def test_no_more_trials_than_slots() -> None:
    study = DrivenStudy(slots=2)
    first, second = study.start(), study.start()
    assert study.next() == "wait"
    study.end(first)
    third = study.start()
    assert study.search.live == [second, third]


def test_waiting_for_a_search_to_end_is_not_the_end() -> None:
    study = DrivenStudy(slots=9, grid=ONE_CELL, trials=2)
    first, second = study.start(), study.start()
    assert study.next() == "wait"
    study.end(first, 0.4)
    assert study.next() == "wait"
    study.end(second, 0.6)
    confirmations = [study.start(), study.start()]
    # Either may fail and have to be handed out again.
    assert study.next() == "wait"
    for trial in confirmations:
        study.end(trial)
    assert study.next() == "over"
    (winner,) = study.of("winner")
    assert (winner["value"], winner["trial"]) == (0.6, second.id)
    assert (winner["searched"], winner["values"]) == (second.searched, {"val/accuracy": 0.6})


def test_a_cell_without_a_winner_does_not_stop_the_others() -> None:
    study = DrivenStudy(grid={**ONE_CELL, "data.tasks": [2, 4]}, trials=2)
    for _ in range(2):
        assert not study.fail(study.start())
    rest = study.run()[2:]
    assert {trial["cell"] for trial in rest} == {CELL}
    (failed,) = study.of("failed_cell")
    assert failed["cell"] == "method.name=inflora,data.tasks=4"
    assert failed["error"] == "none of 2 search trials saw all tasks"


def test_a_cell_without_valid_settings_fails_and_says_why() -> None:
    study = DrivenStudy(grid=ONE_CELL)
    search = study.search._searches[CELL]
    search.cell = dataclasses.replace(
        search.cell, space={"method.epsilon_end": FloatDistribution(0.1, 0.2)}
    )
    assert study.next() == "over"
    _, note, failed = study.records
    assert (note["kind"], note["text"][:16]) == ("note", "not tried first:")
    assert failed["kind"] == "failed_cell"
    assert failed["error"].startswith("no setting that was proposed is valid: method.epsilon_end")


def test_neither_pruned_trials_nor_those_out_of_memory_win() -> None:
    study = DrivenStudy(grid=ONE_CELL, trials=3)
    study.end(study.start(), 0.9, tasks=1)
    study.search.end(study.start(), failed=True, reason="out_of_memory")
    study.end(study.start(), 0.1)
    pruned, infeasible, _ = study.search._searches[CELL]._known()
    assert (pruned.state, infeasible.state) == ("pruned", "infeasible")
    study.start()
    (winner,) = study.of("winner")
    assert winner["value"] == 0.1


def test_a_cell_that_takes_settings_over_gets_its_own_winner_and_confirmations() -> None:
    study = DrivenStudy(
        grid=ONE_CELL,
        search={"protocol": "transfer", "confirm_on": [{"data.train_per_class": 10}]},
        trials=2,
        seeds=[0, 1, 2],
    )
    study.run()
    winners = study.of("winner")
    assert len({winner["cell"] for winner in winners}) == len(winners) == 2
    assert len({winner["trial"] for winner in winners}) == 1
    for winner in winners:
        own = study.of("trial", cell=winner["cell"], role="confirm")
        assert [trial["seed"] for trial in own] == [1, 2]
        assert {trial["of"] for trial in own} == {winner["trial"]}
        assert all(trial["searched"] == winner["searched"] for trial in own)


def test_a_front_is_recorded_and_all_of_it_confirmed() -> None:
    study = DrivenStudy(
        grid=ONE_CELL,
        trials=2,
        objective={"val/accuracy": "max", "val/forgetting": "min"},
        pruner={"kind": "none"},
    )
    for accuracy in (0.5, 0.6):
        trial = study.start()
        study.search.note(trial, 2, {"val/accuracy": accuracy, "val/forgetting": accuracy})
        study.search.end(trial, failed=False)
    study.run()
    (front,) = study.of("front")
    reached = [point["values"]["val/accuracy"] for point in front["points"]]
    assert reached == [0.6, 0.5] and len(study.of("trial", role="confirm")) == 2 * 2


def test_records_of_trials_say_what_going_on_needs() -> None:
    study = DrivenStudy(grid=ONE_CELL, trials=1)
    search, *confirmations = study.run()
    assert (search["tasks"], search["of"]) == (2, None) and search["sampler"]
    assert [trial["of"] for trial in confirmations] == [search["trial"]] * 2
    assert {trial["sampler"] for trial in confirmations} == {None}


def test_a_spent_budget_ends_a_search_but_not_its_running_trials() -> None:
    study = DrivenStudy(slots=2, grid=ONE_CELL, trials=9, budget={"wall_hours": 1e-9})
    running = study.start()
    assert study.next() == "wait"
    study.end(running)
    assert [trial["role"] for trial in study.run()] == ["search", "confirm", "confirm"]


def test_a_trial_that_fails_is_handed_out_again_before_anything_else() -> None:
    study = DrivenStudy(grid=ONE_CELL, trials=2, retries=2)
    trial = study.start()
    for restart in (1, 2):
        assert study.fail(trial) and trial in study.search.live
        assert study.search.next() == Start(trial, True, restart)
        assert study.search.restarts(trial) == restart
    assert not study.fail(trial)
    assert study.start() != trial


def test_the_last_trial_can_be_handed_out_again() -> None:
    study = DrivenStudy(slots=2, grid=ONE_CELL, search="none", retries=1)
    first, second = study.start(), study.start()
    study.end(first)
    assert study.next() == "wait"
    assert study.fail(second)
    study.end(study.start())
    assert study.next() == "over"


def test_a_lost_node_does_not_count_but_not_for_ever() -> None:
    study = DrivenStudy(slots=2, grid=ONE_CELL, search="none")
    trial, other = study.start(), study.start()
    for _ in range(NODE_LOSSES):
        assert study.fail(trial, node_failed=True)
        assert study.start() == trial and study.search.restarts(trial) == 0
    assert not study.fail(trial, node_failed=True)
    # A failure after that of a node is the trial's own.
    assert study.fail(other, node_failed=True)
    assert not study.fail(study.start())


def at(hours: float, record: Record) -> Record:
    return {**record, "time": hours * HOUR}


def trial(hours: float, name: str, cell: str = "a", role: str = "search") -> Record:
    return at(hours, records.trial(name, cell, role, {}, {}, 0, 4, gpus=0.5))


def end(hours: float, name: str) -> Record:
    return at(hours, records.end(name, "completed"))


def times_of(*ledger: Record) -> CellTimes:
    times = CellTimes()
    for record in ledger:
        times.take(record)
    return times


def test_gpu_hours_add_up_ended_and_running_search_trials_of_a_cell() -> None:
    times = times_of(
        trial(1, "first"),
        trial(2, "second"),
        trial(2, "other", cell="b"),
        end(3, "first"),
        trial(3, "confirmed", role="confirm"),
    )
    assert times.gpu_seconds("a", 4 * HOUR) == pytest.approx((0.5 * 2 + 0.5 * 2) * HOUR)
    assert times.gpu_seconds("b", 4 * HOUR) == pytest.approx(0.5 * 2 * HOUR)


def test_wall_hours_begin_with_the_first_trial_and_leave_out_the_time_between_sessions() -> None:
    times = times_of(
        at(0, records.study("small", "?", facts({}))),
        trial(1, "first"),
        at(2, records.task("first", 1, {}, [0.5])),
        # Killed here: nothing is known of what came after the last record.
        at(10, records.resumed(facts({}))),
        at(10.5, records.continued("first", 1, gpus=1.0)),
        end(11, "first"),
        at(12, records.finished("interrupted", 2 * HOUR)),
        at(20, records.resumed(facts({}))),
    )
    assert times.wall_seconds("a", 21 * HOUR) == pytest.approx((1 + 2 + 1) * HOUR)
    assert times.gpu_seconds("a", 21 * HOUR) == pytest.approx((0.5 * 1 + 1.0 * 0.5) * HOUR)


@pytest.mark.parametrize(
    ("budget", "hours"), [({"gpu_hours": 1}, 2), ({"wall_hours": 1}, 1), ({}, math.inf)]
)
def test_a_limit_is_reached_by_either_and_never_before_the_first_trial(
    budget: dict[str, float], hours: float
) -> None:
    assert not spent(Budget(**budget), times_of(), "a", 100 * HOUR)
    times = times_of(trial(0, "first"))
    for now in (0.9, 1, 1.9, 2, 1000):
        assert spent(Budget(**budget), times, "a", now * HOUR) == (now >= hours)
