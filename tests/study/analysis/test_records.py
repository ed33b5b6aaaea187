import math
from pathlib import Path

import pytest

from study.analysis.entities import StudyRecords
from study.analysis.records import from_records, read_ledger
from study.ledger import Ledger, Record
from tests.study.analysis import engine_ledgers
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
    assert study.ledger_bytes == (tmp_path / "ledger.jsonl").stat().st_size
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
    again = {**records[0], "time": records[0]["time"] + 1000}
    resumed = [*records[:-1], stopped, again]
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
    with pytest.raises(ValueError, match="it was written by a newer one"):
        from_records([{**records[0], "version": 2}])
    with pytest.raises(ValueError, match="must hold a study record"):
        from_records(records[1:2])
    with pytest.raises(ValueError, match="unknown trial"):
        from_records([*records[:2], records[3]])


def test_a_resumed_study_has_the_last_spec_and_the_sum_of_its_sessions() -> None:
    study = from_records(engine_ledgers.resumed())
    assert (study.status, study.wall_seconds) == ("complete", 59.0)
    assert study.study.spec["seeds"] == [0, 1, 2]
    assert study.study.name == "engine"
    assert (study.study.commit, [one.commit for one in study.sessions]) == ("def", ["abc", "def"])
    halfway = from_records(list(engine_ledgers.resumed())[:11])
    assert (halfway.status, halfway.wall_seconds) == ("running", 9.0)


def test_a_session_that_was_killed_counts_up_to_its_last_record() -> None:
    study = from_records(engine_ledgers.resumed(killed=True))
    # Study, cell, trial and four tasks, one second apart; the later session says 50 itself.
    assert study.wall_seconds == 6.0 + 50.0


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_the_time_between_two_sessions_is_not_a_trials_wall_time(killed: bool, again: bool) -> None:
    """Whether or not its record is written again when it goes on."""
    records = engine_ledgers.resumed(killed, gap=5000.0)
    if again:
        place = next(i for i, one in enumerate(records) if one["kind"] == "resumed") + 1
        trial = next(one for one in records if one["kind"] == "trial")
        records.insert(place, {**trial, "time": records[place - 1]["time"]})
    (trial_record,) = from_records(records).searches("method.name=inflora,data.tasks=10")
    assert [one.task for one in trial_record.tasks] == list(range(1, 11))
    # Four tasks (and the end of an interrupted trial), then six tasks and the end. Of a trial that
    # is not announced again it is not known when it went on: its first task counts its own 0.8.
    first = 1.0 if again else 0.8
    assert trial_record.seconds == pytest.approx((4 if killed else 5) + first + 6)
    assert trial_record.status == "completed"


def test_an_interrupted_trial_that_reports_again_is_running() -> None:
    records = engine_ledgers.resumed()
    place = next(i for i, one in enumerate(records) if one["kind"] == "resumed")
    assert from_records(records[: place + 1]).trials[0].status == "interrupted"
    assert from_records(records[: place + 2]).trials[0].status == "running"


def test_the_number_of_tasks_a_trial_is_to_see_is_not_taken_for_its_tasks() -> None:
    first, *_ = from_records(engine_ledgers.compared_protocols()).trials
    assert (first.planned, len(first.tasks)) == (3, 3)
    assert from_records(small()).trials[0].planned is None
    study = from_records(engine_ledgers.compared_protocols())
    assert [(one.search_tasks, one.tasks) for one in study.cells[:2]] == [(3, 10), (10, 10)]


def test_points_of_a_front_have_their_own_confirmations() -> None:
    study = from_records(engine_ledgers.several_objectives())
    (cell,) = study.cells
    points = study.points(cell.cell)
    assert [one.searched["method.rank"] for one in points] == list(engine_ledgers.FRONT)
    assert [one.number for one in points] == [1, 2, 3]
    for one in points:
        assert [trial.seed for trial in one.confirmations] == [0, 1, 2]
        assert {trial.params["method.rank"] for trial in one.confirmations} == {
            one.searched["method.rank"]
        }
    # The winner is the point that is best in the first objective.
    assert study.confirmations(cell.cell) == points[0].confirmations
    assert from_records(small()).points(CELL) == ()


def test_settings_keep_their_number_when_a_study_is_extended() -> None:
    records = engine_ledgers.several_objectives()
    front = next(one for one in records if one["kind"] == "front")
    new = {**front["points"][0], "searched": {"method.rank": 12}}
    later = {**front, "points": [new, front["points"][1]]}
    study = from_records([*records, later])
    assert [one.number for one in study.points(front["cell"])] == [4, 2]


def test_a_cell_tuned_elsewhere_has_the_front_of_that_cell() -> None:
    records = engine_ledgers.several_objectives()
    front = next(one for one in records if one["kind"] == "front")
    home = next(one for one in records if one["kind"] == "cell")
    away = {**home, "cell": "away", "tuned_in": home["cell"]}
    study = from_records([*records, away])
    assert [one.number for one in study.points("away")] == [1, 2, 3]
    assert study.points("away")[0].confirmations == ()
    assert front["cell"] == home["cell"]


def test_why_a_trial_failed_and_how_often_it_was_restarted() -> None:
    study = from_records(engine_ledgers.several_objectives())
    reasons = [one.reason for one in study.trials if one.status == "failed"]
    assert reasons == ["diverged", "out_of_memory"]
    assert [one.retries for one in study.searches(study.cells[0].cell)][:2] == [1, 0]
    assert {one.reason for one in from_records(small()).trials} == {None}


def test_a_session_without_a_study_before_it_is_refused() -> None:
    records = [one for one in engine_ledgers.resumed() if one["kind"] == "resumed"]
    with pytest.raises(ValueError, match="must begin with its study, but the ledger does not"):
        from_records(records)
