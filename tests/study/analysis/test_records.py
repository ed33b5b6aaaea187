import math
from pathlib import Path

import pytest

from study.analysis.records import StudyRecords, from_records, read_ledger
from study.ledger import Ledger, Record
from tests.study.analysis.ledgers import made_up_study

CELL = "method.name=inflora,data.tasks=10"


def small() -> list[Record]:
    return made_up_study(methods=("inflora",), tasks=(10,), seeds=(0, 1), layers=2)


def confirmed(study: StudyRecords) -> list[int]:
    return [one.seed for one in study.confirmations(CELL)]


def test_a_complete_study_is_read_from_its_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for record in small():
        ledger.append(record)
    ledger.close()
    study = read_ledger(tmp_path / "ledger.jsonl")
    assert (study.status, study.wall_seconds, study.study.chance) == ("complete", 123.0, 0.01)
    (cell,) = study.cells
    assert (cell.cell, cell.method, cell.tasks) == (CELL, "inflora", 10)
    assert [one.status for one in study.searches(CELL)] == [
        "completed",
        "pruned",
        "completed",
        "failed",
    ]
    assert confirmed(study) == [0, 1]
    trial = study.confirmations(CELL)[0]
    assert [one.task for one in trial.tasks] == list(range(1, 11))
    assert [len(one.accuracy_row) for one in trial.tasks] == list(range(1, 11))
    assert trial.compute_seconds == pytest.approx(10 * 2.0)
    assert trial.seconds == 11.0


def test_a_metric_without_value_is_absent() -> None:
    trial = from_records(small()).trials[0]
    assert trial.final("train/loss") is None
    assert trial.series("val/forgetting").keys() == set(range(2, 11))


def test_a_task_reported_twice_counts_once_and_the_last_report_wins() -> None:
    records = small()
    place = next(i for i, one in enumerate(records) if one["kind"] == "task" and one["task"] == 3)
    again = {**records[place], "metrics": {"val/accuracy": 0.123}}
    study = from_records([*records[: place + 2], again, *records[place + 2 :]])
    trial = study.trials[0]
    assert [one.task for one in trial.tasks] == list(range(1, 11))
    assert trial.tasks[2].metrics == {"val/accuracy": 0.123}


@pytest.mark.parametrize("count", range(1, 40))
def test_a_running_study_can_be_read_at_any_moment(count: int) -> None:
    study = from_records(small()[:count])
    assert study.status == "running"
    assert study.wall_seconds is None


def test_a_trial_without_end_is_running_and_one_launched_again_too() -> None:
    records = [one for one in small() if one["kind"] in ("study", "cell", "trial")]
    assert from_records(records).trials[0].status == "running"
    end = {"kind": "end", "trial": records[2]["trial"], "status": "interrupted", "time": 2e6}
    assert from_records([*records, end]).trials[0].status == "interrupted"
    again = {**records[2], "time": 3e6}
    study = from_records([*records, end, again])
    assert study.trials[0].status == "running"
    assert len(study.trials) == len(from_records(records).trials)


def test_the_time_between_two_launches_is_not_a_trials_wall_time() -> None:
    head = small()[:3]
    name = head[2]["trial"]

    def task(number: int, time: float) -> Record:
        found: Record = {"kind": "task", "trial": name, "task": number, "time": time}
        return {**found, "metrics": {}, "accuracy_row": [0.5] * number}

    start = {**head[2], "time": 100.0}
    records = [*head[:2], start, task(1, 105.0), {**start, "time": 900.0}, task(2, 907.0)]
    assert from_records(records).trials[0].seconds == 12.0


def test_a_resumed_study_runs_again_and_sums_its_wall_time() -> None:
    records = small()
    stopped = {**records[-1], "status": "interrupted"}
    assert from_records([*records[:-1], stopped]).status == "interrupted"
    resumed = [*records[:-1], stopped, records[0]]
    assert from_records(resumed).status == "running"
    study = from_records([*resumed, records[-1]])
    assert (study.status, study.wall_seconds) == ("complete", 246.0)


def test_confirmations_of_an_earlier_winner_are_left_out() -> None:
    records = small()
    place = next(i for i, one in enumerate(records) if one["kind"] == "winner")
    later = {**records[place], "searched": {"optim.lr": 0.001}}
    assert confirmed(from_records([*records, later])) == []
    assert confirmed(from_records([*records, later, records[place]])) == [0, 1]


def test_a_confirmation_belongs_to_the_winner_by_its_params() -> None:
    records = [{**one, "searched": {}} if one["kind"] == "trial" else one for one in small()]
    assert confirmed(from_records(records)) == [0, 1]


def test_unknown_kinds_and_entries_are_passed_over() -> None:
    records = small()
    more = [{**one, "future": 1} for one in records]
    assert from_records([*more, {"kind": "sampler", "time": 0.0}]).status == "complete"


def test_an_unmeasured_entry_of_a_row_is_nan() -> None:
    records = small()
    place = next(i for i, one in enumerate(records) if one["kind"] == "task" and one["task"] == 2)
    records[place] = {**records[place], "accuracy_row": [None, 0.5]}
    row = from_records(records).trials[0].tasks[1].accuracy_row
    assert math.isnan(row[0])
    assert row[1] == 0.5


def test_what_cannot_be_read_is_refused() -> None:
    records = small()
    with pytest.raises(ValueError, match="newer release"):
        from_records([{**records[0], "version": 2}])
    with pytest.raises(ValueError, match="must hold a study record"):
        from_records(records[1:2])
    with pytest.raises(ValueError, match="unknown trial"):
        from_records([*records[:2], records[3]])
