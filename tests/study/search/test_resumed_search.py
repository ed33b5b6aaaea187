"""Going on from made-up ledgers: nothing is lost, nothing is repeated."""

from typing import Any

import pytest

from study.ledger import Record, history_of
from study.search import PastTrials
from tests.study.search.driven_study import DrivenStudy
from tests.study.small_study import small_plan

OF_SESSIONS = ("study", "resumed", "continued")
TWO_CELLS = {"method.name": ["inflora"], "data.tasks": [2, 4]}


def launched(study: DrivenStudy) -> list[str]:
    return [record["trial"] for record in study.of("trial")]


def happened(study: DrivenStudy) -> list[Record]:
    """All that does not tell of sessions, without the time."""
    return [
        {key: value for key, value in record.items() if key != "time"}
        for record in study.records
        if record["kind"] not in OF_SESSIONS
    ]


def finished(**changes: Any) -> DrivenStudy:
    study = DrivenStudy(**changes)
    study.run()
    return study


@pytest.mark.parametrize("trials_before", [0, 1, 3, 7, 12, 19])
@pytest.mark.parametrize("killed", [False, True])
def test_a_resumed_serial_study_is_the_uninterrupted_one(trials_before: int, killed: bool) -> None:
    first = DrivenStudy()
    for _ in range(trials_before):
        first.end(first.start())
    if killed:
        first.train(first.start(), tasks=1)
    second = finished(before=first.records)
    assert happened(second) == happened(finished())
    assert len(launched(second)) == 4 * (3 + 2)
    assert len(second.of("continued")) == killed


@pytest.mark.parametrize("cut", range(1, 60, 4))
def test_a_ledger_cut_anywhere_leads_to_the_planned_trials_each_once(cut: int) -> None:
    whole = finished(grid=TWO_CELLS)
    again = finished(before=whole.records[:cut], grid=TWO_CELLS)
    assert sorted(launched(again)) == sorted(launched(whole))
    tasks = [(record["trial"], record["task"]) for record in again.of("task")]
    winners = [record["cell"] for record in again.of("winner")]
    for found in (launched(again), tasks, winners):
        assert len(set(found)) == len(found)
    assert len(winners) == 2


def test_a_kill_between_the_winner_and_its_confirmations_queues_them() -> None:
    grid = {"method.name": ["inflora"], "data.tasks": [2]}
    whole = finished(grid=grid)
    (winner,) = whole.of("winner")
    again = finished(before=whole.records[: whole.records.index(winner) + 1], grid=grid)
    assert happened(again) == happened(whole)
    assert [record["seed"] for record in again.of("trial", role="confirm")] == [0, 1]
    # One that is finished runs nothing again.
    assert happened(finished(before=whole.records, grid=grid)) == happened(whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": 5},
        {"seeds": [0, 1, 2, 3]},
        {"grid": {"method.name": ["inflora", "sd_lora"], "data.tasks": [1, 2, 4]}},
    ],
)
def test_an_extended_study_repeats_nothing_and_confirms_what_wins_now(
    changes: dict[str, Any],
) -> None:
    whole = finished()
    more = finished(before=whole.records, **changes)
    assert len(set(launched(more))) == len(launched(more)) > len(launched(whole))
    if "seeds" in changes:
        # A winner that stays is recorded once.
        assert len(more.of("winner")) == len(more.plan.cells)
    for cell in more.plan.cells:
        (*_, winner) = more.of("winner", cell=cell.id)
        confirmed = more.of("trial", cell=cell.id, role="confirm", searched=winner["searched"])
        assert sorted(trial["seed"] for trial in confirmed) == sorted(more.plan.spec.seeds)
        assert len(more.of("trial", cell=cell.id, role="search")) == more.plan.spec.trials


def test_trials_that_would_mean_something_else_now_are_refused() -> None:
    study = finished()
    first = study.of("trial")[0]
    first["trial"], first["params"]["optim.epochs"] = "0123456789abcdef", 7
    with pytest.raises(
        ValueError, match=r"0123456789abcdef .* another one now: optim.epochs was 7"
    ):
        PastTrials(history_of([study.records[0], first]), small_plan())
