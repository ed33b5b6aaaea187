import pytest

from study.ledger import Record
from study.sections import Budget
from study.spending import Spending

HOUR = 3600.0


def at(hours: float, **record: object) -> Record:
    return {"time": hours * HOUR, **record}


def trial(hours: float, name: str, cell: str = "a", role: str = "search") -> Record:
    return at(hours, kind="trial", trial=name, cell=cell, role=role, gpus=0.5)


def end(hours: float, name: str) -> Record:
    return at(hours, kind="end", trial=name, status="completed")


def taken(*records: Record, **budget: float) -> Spending:
    spending = Spending(Budget(**budget))
    for record in records:
        spending.take(record)
    return spending


def test_gpu_hours_add_up_ended_and_running_search_trials_of_a_cell() -> None:
    spending = taken(
        trial(1, "one"),
        trial(2, "two"),
        trial(2, "other", cell="b"),
        end(3, "one"),
        trial(3, "confirmed", role="confirm"),
    )
    assert spending.gpu_hours("a", 4 * HOUR) == pytest.approx(0.5 * 2 + 0.5 * 2)
    assert spending.gpu_hours("b", 4 * HOUR) == pytest.approx(0.5 * 2)


def test_wall_hours_begin_with_the_first_trial_and_leave_out_the_time_between_sessions() -> None:
    spending = taken(
        at(0, kind="study"),
        trial(1, "one"),
        at(2, kind="task", trial="one"),
        # Killed here: nothing is known of what came after the last record.
        at(10, kind="resumed"),
        at(10.5, kind="continued", trial="one", gpus=1.0),
        end(11, "one"),
        at(12, kind="finished"),
        at(20, kind="resumed"),
    )
    assert spending.wall_hours("a", 21 * HOUR) == pytest.approx(1 + 2 + 1)
    assert spending.gpu_hours("a", 21 * HOUR) == pytest.approx(0.5 * 1 + 1.0 * 0.5)


def test_a_limit_is_reached_by_either_and_never_before_the_first_trial() -> None:
    assert not taken(wall_hours=0.001).reached("a", 100 * HOUR)
    spending = taken(trial(0, "one"), gpu_hours=1)
    assert not spending.reached("a", 1.9 * HOUR)
    assert spending.reached("a", 2 * HOUR)
    assert taken(trial(0, "one"), wall_hours=1).reached("a", 1 * HOUR)
    assert not taken(trial(0, "one")).reached("a", 1000 * HOUR)
