"""What records add up to, whichever of them are there."""

import math
from pathlib import Path

import pytest

from study.ledger import (
    History,
    Journal,
    Record,
    StudyRecords,
    history_of,
    read_history,
    read_study,
    records,
)
from tests.study.histories import ledger_of, study_of, timed
from tests.study.report import engine_ledgers
from tests.study.report.ledgers import made_up_study

CELL = "method.name=inflora,data.tasks=10"


@pytest.fixture
def ledger() -> list[Record]:
    """A small study that ran to its end."""
    return made_up_study(methods=("inflora",), tasks=(10,), seeds=(0, 1), layers=2)


def place_of(ledger: list[Record], **wanted: object) -> int:
    """The place of the first record with these entries."""
    return next(
        place for place, record in enumerate(ledger) if wanted.items() <= dict(record).items()
    )


def confirmed(study: StudyRecords) -> list[int]:
    return [trial.seed for trial in study.confirmations(CELL)]


def test_a_complete_study_is_read_from_its_file(ledger: list[Record], tmp_path: Path) -> None:
    path = ledger_of(ledger, tmp_path)
    study = read_study(path)
    assert (study.status, study.wall_seconds, study.study.chance) == ("complete", 123.0, 0.01)
    assert study.ledger_bytes == path.stat().st_size
    (cell,) = study.cells
    assert (cell.cell, cell.method, cell.tasks) == (CELL, "inflora", 10)
    searches = study.searches(CELL)
    statuses = [trial.status for trial in searches]
    assert statuses == ["completed", "pruned", "completed", "failed"]
    # A metric without a value is absent.
    assert searches[0].final("train/loss") is None
    assert searches[0].series("val/forgetting").keys() == set(range(2, 11))
    assert confirmed(study) == [0, 1] and study.points(CELL) == ()
    trial = study.confirmations(CELL)[0]
    assert [task.task for task in trial.tasks] == list(range(1, 11))
    assert [len(task.accuracy_row) for task in trial.tasks] == list(range(1, 11))
    assert trial.compute_seconds == pytest.approx(10 * 2.0)
    assert (trial.seconds, trial.planned) == (11.0, 10)


def test_a_torn_line_is_no_part_of_what_was_read(ledger: list[Record], tmp_path: Path) -> None:
    path = ledger_of(ledger[:5], tmp_path)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"kind": "task", "tri')
    history = read_history(path)
    assert (history.whole_bytes, len(history.cells), history.source) == (whole, 1, str(path))


def test_a_task_that_is_recorded_twice_counts_once_and_the_first_record_stays(
    ledger: list[Record],
) -> None:
    place = place_of(ledger, kind="task", task=3)
    history = history_of(ledger[: place + 2])
    assert not history.add({**ledger[place], "metrics": {"val/accuracy": 0.123}})
    assert not history.add({**ledger[place_of(ledger, kind="trial")]})
    assert all(history.add(record) for record in ledger[place + 2 :])
    trial = history.study_records().trials[0]
    assert [task.task for task in trial.tasks] == list(range(1, 11))
    assert trial.tasks[2].metrics["val/accuracy"] == ledger[place]["metrics"]["val/accuracy"]
    assert len(list(history.results())) == sum(record["kind"] == "task" for record in ledger)


def test_a_running_study_can_be_read_at_any_moment(ledger: list[Record]) -> None:
    for count in range(1, 40):
        study = study_of(ledger[:count])
        assert (study.status, study.wall_seconds) == ("running", None)


def test_a_trial_without_end_is_running_until_a_later_session_begins(
    ledger: list[Record],
) -> None:
    begun, trial = ledger[:4], ledger[2]["trial"]
    end, resumed, continued = timed(
        [
            records.end(trial, "interrupted"),
            {**ledger[0], "kind": "resumed"},
            records.continued(trial, 1),
        ],
        start=2e6,
    )
    for more, status in (
        ([], "running"),
        ([end], "interrupted"),
        # Of a session that was killed: nothing has said that it ended.
        ([resumed], "interrupted"),
        ([resumed, continued], "running"),
    ):
        (found,) = study_of([*begun, *more]).trials
        assert found.status == status


def test_the_time_between_two_launches_is_not_a_trials_wall_time(ledger: list[Record]) -> None:
    name = ledger[2]["trial"]
    moments = {
        100.0: ledger[2],
        105.0: records.task(name, 1, {}, [0.5]),
        900.0: records.continued(name, 1),
        907.0: records.task(name, 2, {}, [0.5, 0.5]),
    }
    later = ({**record, "time": time} for time, record in moments.items())
    assert study_of([*ledger[:2], *later]).trials[0].seconds == 12.0


def test_a_resumed_study_runs_again_and_sums_its_wall_time(ledger: list[Record]) -> None:
    stopped = [*ledger[:-1], {**ledger[-1], "status": "interrupted"}]
    assert study_of(stopped).status == "interrupted"
    stopped.append({**ledger[0], "kind": "resumed", "time": ledger[0]["time"] + 1000})
    assert study_of(stopped).status == "running"
    study = study_of([*stopped, ledger[-1]])
    assert (study.status, study.wall_seconds) == ("complete", 246.0)


def test_confirmations_are_those_of_the_present_winner_by_its_params(
    ledger: list[Record],
) -> None:
    winner = ledger[place_of(ledger, kind="winner")]
    later = {**winner, "searched": {"optim.lr": 0.001}}
    assert confirmed(study_of([*ledger, later])) == []
    assert confirmed(study_of([*ledger, later, winner])) == [0, 1]
    plain = [
        {**record, "searched": {}} if record["kind"] == "trial" else record for record in ledger
    ]
    assert confirmed(study_of(plain)) == [0, 1]


def test_a_winner_takes_the_place_of_a_failure_and_ends_the_search(ledger: list[Record]) -> None:
    place = place_of(ledger, kind="winner")
    failed = timed([records.failed_cell(CELL, "none of 4 search trials saw all tasks")])
    history = history_of([*ledger[:place], *failed])
    assert history.failed_cells and not history.searching and history.winners == {}
    history = history_of([*ledger[:place], *failed, ledger[place]])
    assert not history.failed_cells and list(history.winners) == [CELL]
    assert history.without_result() == [CELL]
    assert history_of(ledger).without_result() == []


def test_a_cell_whose_accuracy_is_no_number_has_no_result(ledger: list[Record]) -> None:
    lost = [
        {**record, "metrics": {**record["metrics"], "test/accuracy": None}}
        if record["kind"] == "task"
        else record
        for record in ledger
    ]
    assert history_of(lost).without_result() == [CELL]


def test_what_a_trial_measured_can_be_let_go_of(ledger: list[Record]) -> None:
    history = history_of(ledger)
    trial = history.of_cell(CELL, "confirm")[0]
    last = trial.last("test/accuracy")
    history.forget_metrics(trial.trial, keep=["test/accuracy"])
    assert (trial.task, trial.last("test/accuracy")) == (10, last)
    assert trial.last("test/plasticity") is None


def test_unknown_kinds_and_entries_are_passed_over(ledger: list[Record]) -> None:
    more = [{**record, "future": 1} for record in ledger]
    assert study_of([*more, {"kind": "sampler", "time": 0.0}]).status == "complete"


def test_what_cannot_be_read_is_refused(ledger: list[Record]) -> None:
    resumed = [record for record in engine_ledgers.resumed() if record["kind"] == "resumed"]
    lacking = {key: value for key, value in ledger[2].items() if key != "seed"}
    for broken, message in (
        ([{**ledger[0], "version": records.VERSION + 1}], "it was written by a newer one"),
        (ledger[1:2], "must hold a study record"),
        ([*ledger[:2], ledger[3]], "the ledger has a 'task' of unknown trial"),
        ([*ledger[:2], lacking], r"of kind 'trial' must have 'seed', but lacks it: line 3 of "),
        (resumed, "must begin with its study, but the ledger does not"),
    ):
        with pytest.raises(ValueError, match=message):
            study_of(broken)


def test_a_resumed_study_has_the_last_spec_and_the_sum_of_its_sessions() -> None:
    study = study_of(engine_ledgers.resumed())
    assert (study.status, study.wall_seconds) == ("complete", 59.0)
    assert (study.study.name, study.study.spec["seeds"]) == ("engine", [0, 1, 2])
    commits = [session.commit for session in study.sessions]
    assert (study.study.commit, commits) == ("def", ["abc", "def"])
    halfway = study_of(engine_ledgers.resumed()[:11])
    assert (halfway.status, halfway.wall_seconds) == ("running", 9.0)
    first, *_ = study_of(engine_ledgers.resumed()[:7]).trials
    assert (first.planned, len(first.tasks)) == (10, 4)
    # Of one that was killed: study, cell, trial and four tasks, one second apart.
    assert study_of(engine_ledgers.resumed(killed=True)).wall_seconds == 6.0 + 50.0


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("marked", [False, True])
def test_the_time_between_two_sessions_is_not_a_trials_wall_time(
    killed: bool, marked: bool
) -> None:
    """Whether or not a record says when it went on."""
    ledger = engine_ledgers.resumed(killed, gap=5000.0)
    if not marked:
        ledger = [record for record in ledger if record["kind"] != "continued"]
    (trial,) = study_of(ledger).searches(CELL)
    assert [task.task for task in trial.tasks] == list(range(1, 11))
    # Four tasks (and the end of an interrupted trial), then six tasks and the end. Where it is not
    # known when it went on, its first task counts its own 0.8.
    first = 1.0 if marked else 0.8
    assert trial.seconds == pytest.approx((4 if killed else 5) + first + 6)
    assert trial.status == "completed"


def test_the_number_of_tasks_of_a_search_is_not_that_of_its_confirmation() -> None:
    study = study_of(engine_ledgers.compared_protocols())
    assert [(cell.search_tasks, cell.tasks) for cell in study.cells[:2]] == [(3, 10), (10, 10)]


def test_points_of_a_front_have_numbers_and_confirmations_of_their_own() -> None:
    ledger = engine_ledgers.several_objectives()
    front = ledger[place_of(ledger, kind="front")]
    home = ledger[place_of(ledger, kind="cell")]
    away = {**home, "cell": "away", "tuned_in": home["cell"]}
    study = study_of([*ledger, away])
    points = study.points(home["cell"])
    assert [point.searched["method.rank"] for point in points] == list(engine_ledgers.FRONT)
    assert [point.number for point in points] == [1, 2, 3]
    for point in points:
        assert [trial.seed for trial in point.confirmations] == [0, 1, 2]
        ranks = {trial.params["method.rank"] for trial in point.confirmations}
        assert ranks == {point.searched["method.rank"]}
    # The winner is the point that is best in the first objective.
    assert study.confirmations(home["cell"]) == points[0].confirmations
    # A cell that was tuned elsewhere has the front of that cell, and its own confirmations.
    assert [point.number for point in study.points("away")] == [1, 2, 3]
    assert study.points("away")[0].confirmations == ()
    # Settings keep their number when the study is extended.
    new = {**front["points"][0], "searched": {"method.rank": 12}}
    later = study_of([*ledger, {**front, "points": [new, front["points"][1]]}])
    assert [point.number for point in later.points(front["cell"])] == [4, 2]


def test_why_a_trial_failed_and_how_often_it_was_restarted(ledger: list[Record]) -> None:
    study = study_of(engine_ledgers.several_objectives())
    reasons = [trial.reason for trial in study.trials if trial.status == "failed"]
    assert reasons == ["diverged", "out_of_memory"]
    retries = [trial.retries for trial in study.searches(study.cells[0].cell)]
    assert retries[:2] == [1, 0]
    assert {trial.reason for trial in study_of(ledger).trials} == {None, "error"}


def test_an_unmeasured_entry_of_a_row_is_nan(ledger: list[Record]) -> None:
    place = place_of(ledger, kind="task", task=2)
    ledger[place] = {**ledger[place], "accuracy_row": [None, 0.5]}
    first, second = study_of(ledger).trials[0].tasks[1].accuracy_row
    assert math.isnan(first) and second == 0.5


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("task", {"time": 1e300}, "'time' seconds since 1970, but has 1e+300"),
        ("task", {"time": "now"}, "'time' seconds since 1970"),
        ("task", {"metrics": {"a": {"b": 1}}}, "'metrics' an object of finite numbers or null"),
        ("task", {"metrics": [1]}, "'metrics' an object of finite numbers or null"),
        ("task", {"task": -1}, "'task' a whole number from 0"),
        ("trial", {"trial": "../../x"}, "'trial' a name without '/'"),
        ("trial", {"role": "judge"}, "'role' 'search' or 'confirm'"),
        ("end", {"status": "won"}, "'status' completed, pruned, failed or interrupted"),
        ("checkpoint", {"path": "../victim"}, "'path' 'checkpoint' or a folder below 'ray/'"),
        ("checkpoint", {"path": "/etc"}, "'path' 'checkpoint' or a folder below 'ray/'"),
        ("checkpoint", {"files": {"../../a": 1}}, "'files' an object of bytes by paths"),
        ("model", {"folder": "models/../x"}, "'folder' a folder below 'models/'"),
    ],
)
def test_odd_records_are_refused_with_line_and_remedy(
    ledger: list[Record], kind: str, change: Record, said: str
) -> None:
    trial = ledger[place_of(ledger, kind="trial")]["trial"]
    more = timed(
        [
            records.checkpoint(trial, 1, "ray/x", {"trainer.pt": 1}),
            records.model(CELL, trial, "models/x", 7, "0"),
        ]
    )
    whole = [*ledger, *({**record, "time": ledger[-1]["time"]} for record in more)]
    place = place_of(whole, kind=kind)
    odd = [*whole[:place], {**whole[place], **change}, *whole[place + 1 :]]
    with pytest.raises(ValueError, match=rf"line {place + 1} of the ledger") as error:
        history_of(odd)
    assert said in str(error.value)


def test_the_first_end_of_a_completed_trial_counts(ledger: list[Record]) -> None:
    ends = [record for record in ledger if record["kind"] == "end"]
    done = next(end["trial"] for end in ends if end["status"] == "completed")
    failed = {**records.end(done, "failed", "unknown: see ray.log"), "time": ledger[-1]["time"]}
    assert history_of([*ledger, failed]).trials[done].status == "completed"
    written: list[Record] = []
    history = history_of(ledger)

    def write(record: Record) -> Record:
        written.append(record)
        return record

    Journal(write, history).append(failed)
    assert (written, history.trials[done].status) == ([], "completed")


def test_a_listener_that_raises_keeps_no_record_back(
    ledger: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[Record] = []
    heard: list[Record] = []

    def write(record: Record) -> Record:
        written.append(record)
        return record

    def broken(record: Record) -> None:
        raise LookupError(record["kind"])

    journal = Journal(write, History(), [broken, heard.append])
    for number, record in enumerate(ledger):
        # As the engine does.
        (journal if number % 2 else journal.through(write)).append(record)
    assert written == heard == ledger
    assert journal.history.study_records() == history_of(ledger).study_records()
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "What listens to the records of the study failed (LookupError: study): going on without "
        "it.\n",
    )
