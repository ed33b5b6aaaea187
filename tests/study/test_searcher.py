import dataclasses
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution
from ray.tune.search import Searcher

from study.ledger import Record
from study.restarts import NODE_LOSSES
from study.restore import Past
from study.searcher import StudySearcher
from tests.study.small_study import small_plan


class Drive:
    """Plays Tune: starts trials by number and ends them with a value at the last task."""

    def __init__(self, slots: int = 1, **changes: Any) -> None:
        self.records: list[Record] = []
        plan = small_plan(**{"retries": 0, **changes})
        self.past = Past([], plan, Path())
        self.searcher = StudySearcher(plan, lambda: slots, self.take, self.past)
        self.count = 0

    def take(self, record: Record) -> None:
        self.records.append(record)
        self.past.add(record)

    def start(self) -> Any:
        self.count += 1
        return self.searcher.suggest(str(self.count))

    def end(self, ray_id: str, value: float, task: int | None = None, error: bool = False) -> None:
        planned = self.searcher.planned(ray_id)
        seen = planned.tasks if task is None else task
        self.searcher.on_trial_complete(
            ray_id, {"task": seen, "metrics/val/accuracy": value}, error
        )

    def run(self, value: float = 0.5, error: bool = False) -> list[Record]:
        """Runs trial after trial to the end and returns the records of launched trials."""
        while self.start() != Searcher.FINISHED:
            self.end(str(self.count), value, error=error)
        return [one for one in self.records if one["kind"] == "trial"]


def test_long_cells_first_searches_alternate_confirmation_at_once() -> None:
    launched = [(one["cell"], one["role"]) for one in Drive(trials=2).run()]
    long = [f"method.name={method},data.tasks=4" for method in ("inflora", "sd_lora")]
    short = [f"method.name={method},data.tasks=2" for method in ("inflora", "sd_lora")]
    expected = []
    for first, second in (long, short):
        expected += [(first, "search"), (second, "search"), (first, "search")]
        expected += [(first, "confirm")] * 2 + [(second, "search")] + [(second, "confirm")] * 2
    assert launched == expected


def test_every_trial_is_launched_once() -> None:
    trials = Drive(trials=3).run()
    assert len({one["trial"] for one in trials}) == len(trials) == 4 * (3 + 2)
    confirmations = [one for one in trials if one["role"] == "confirm"]
    assert {one["params"]["data.evaluation"] for one in confirmations} == {"test"}
    assert [one["seed"] for one in confirmations] == [0, 1] * 4


def test_no_more_trials_than_slots() -> None:
    drive = Drive(slots=2)
    assert isinstance(drive.start(), dict)
    assert isinstance(drive.start(), dict)
    assert drive.start() is None
    drive.end("1", 0.5)
    assert isinstance(drive.start(), dict)
    assert [one.role for one in drive.searcher.live] == ["search", "search"]


def test_waiting_for_a_search_to_end_is_not_the_end() -> None:
    drive = Drive(slots=9, grid={"method.name": ["inflora"], "data.tasks": [2]}, trials=2)
    assert isinstance(drive.start(), dict) and isinstance(drive.start(), dict)
    assert drive.start() is None
    drive.end("1", 0.4)
    assert drive.start() is None
    drive.end("2", 0.6)
    assert drive.start()["data.evaluation"] == "test"
    assert drive.start()["data.evaluation"] == "test"
    # Either may fail and have to be handed out again.
    assert drive.start() is None
    drive.end("5", 0.5)
    drive.end("6", 0.5)
    assert drive.start() == Searcher.FINISHED
    (winner,) = (one for one in drive.records if one["kind"] == "winner")
    assert (winner["value"], winner["trial"]) == (0.6, drive.searcher.planned("2").id)
    assert (winner["searched"], winner["objective"]) == (
        dict(drive.searcher.planned("2").searched),
        "val/accuracy",
    )


def test_a_cell_without_a_winner_does_not_stop_the_others() -> None:
    drive = Drive(grid={"method.name": ["inflora"], "data.tasks": [2, 4]}, trials=2)
    for _ in range(2):
        drive.start()
        drive.end(str(drive.count), 0.0, error=True)
    rest = drive.run()[2:]
    assert {one["cell"] for one in rest} == {"method.name=inflora,data.tasks=2"}
    (failed,) = (one for one in drive.records if one["kind"] == "failed_cell")
    assert failed["cell"] == "method.name=inflora,data.tasks=4"
    assert failed["error"] == "none of 2 search trials saw all tasks"


def test_a_cell_without_valid_settings_fails_and_says_why() -> None:
    drive = Drive(grid={"method.name": ["inflora"], "data.tasks": [2]})
    search = drive.searcher._searches["method.name=inflora,data.tasks=2"]
    search.cell = dataclasses.replace(
        search.cell, space={"method.epsilon_end": FloatDistribution(0.1, 0.2)}
    )
    assert drive.start() == Searcher.FINISHED
    note, failed = drive.records
    assert (note["kind"], note["text"][:16]) == ("note", "not tried first:")
    assert failed["kind"] == "failed_cell"
    assert failed["error"].startswith("no setting that was proposed is valid: method.epsilon_end")


def test_pruned_trials_do_not_win() -> None:
    drive = Drive(grid={"method.name": ["inflora"], "data.tasks": [4]}, trials=2)
    drive.start()
    drive.end("1", 0.9, task=2)
    drive.start()
    drive.end("2", 0.1)
    drive.start()
    (winner,) = (one for one in drive.records if one["kind"] == "winner")
    assert winner["value"] == 0.1


def test_a_cell_that_takes_settings_over_gets_its_own_winner_and_confirmations() -> None:
    drive = Drive(
        grid={"method.name": ["inflora"], "data.tasks": [2]},
        search={"protocol": "transfer", "confirm_on": [{"data.train_per_class": 10}]},
        trials=2,
        seeds=[0, 1, 2],
    )
    trials = drive.run()
    winners = [one for one in drive.records if one["kind"] == "winner"]
    assert len({one["cell"] for one in winners}) == len(winners) == 2
    assert len({one["trial"] for one in winners}) == 1
    for winner in winners:
        own = [one for one in trials if one["cell"] == winner["cell"] and one["role"] == "confirm"]
        assert [one["seed"] for one in own] == [1, 2]
        assert {one["of"] for one in own} == {winner["trial"]}
        assert all(one["searched"] == winner["searched"] for one in own)


def test_records_of_trials_say_what_a_restore_needs() -> None:
    drive = Drive(grid={"method.name": ["inflora"], "data.tasks": [2]}, trials=1)
    search, *confirmations = drive.run()
    assert (search["tasks"], search["of"]) == (2, None) and search["sampler"]
    assert [one["of"] for one in confirmations] == [search["trial"]] * 2
    assert {one["sampler"] for one in confirmations} == {None}


def test_a_spent_budget_ends_a_search_but_not_its_running_trials() -> None:
    drive = Drive(grid={"method.name": ["inflora"], "data.tasks": [2]}, trials=9)
    drive.searcher._spent = lambda cell: drive.count >= 2
    drive.start()
    drive.end("1", 0.5)
    drive.run()
    roles = [one["role"] for one in drive.records if one["kind"] == "trial"]
    assert roles == ["search", "confirm", "confirm"]


def test_a_trial_that_fails_is_handed_out_again_before_anything_else() -> None:
    drive = Drive(grid={"method.name": ["inflora"], "data.tasks": [2]}, trials=2, retries=2)
    drive.start()
    for restart in (1, 2):
        ray_id = str(drive.count)
        drive.searcher.on_trial_complete(ray_id, None, error=True)
        assert drive.searcher.goes_on(ray_id)
        assert drive.start() == drive.records[0]["params"]
        assert drive.records[-1]["kind"] == "continued"
        again = str(drive.count)
        assert drive.searcher.planned(again) == drive.searcher.planned(ray_id)
        assert drive.searcher.folder(again) != drive.searcher.folder(ray_id)
        assert drive.searcher.restarts(again) == restart
    drive.searcher.on_trial_complete(again, None, error=True)
    assert not drive.searcher.goes_on(again)
    drive.start()
    assert drive.records[-1]["kind"] == "trial"


def test_the_last_trial_can_be_handed_out_again() -> None:
    drive = Drive(
        slots=2, grid={"method.name": ["inflora"], "data.tasks": [2]}, search="none", retries=1
    )
    drive.start()
    drive.start()
    drive.end("1", 0.5)
    assert drive.start() is None
    drive.searcher.on_trial_complete("2", None, error=True)
    assert isinstance(drive.start(), dict)
    drive.end(str(drive.count), 0.5)
    assert drive.start() == Searcher.FINISHED


def test_a_lost_node_does_not_count_but_not_for_ever() -> None:
    drive = Drive(grid={"method.name": ["inflora"], "data.tasks": [2]}, search="none", retries=0)
    drive.start()
    for _ in range(NODE_LOSSES):
        ray_id = str(drive.count)
        drive.searcher.blame_node(ray_id)
        drive.searcher.on_trial_complete(ray_id, None, error=True)
        assert drive.searcher.goes_on(ray_id)
        assert isinstance(drive.start(), dict)
        assert drive.searcher.restarts(str(drive.count)) == 0
    last = str(drive.count)
    drive.searcher.blame_node(last)
    drive.searcher.on_trial_complete(last, None, error=True)
    assert not drive.searcher.goes_on(last)


def test_a_failure_after_that_of_a_node_is_the_trials_own() -> None:
    drive = Drive(grid={"method.name": ["inflora"], "data.tasks": [2]}, search="none", retries=0)
    drive.start()
    drive.searcher.blame_node("1")
    drive.searcher.on_trial_complete("1", None, error=True)
    drive.start()
    drive.searcher.on_trial_complete("2", None, error=True)
    assert not drive.searcher.goes_on("2")
