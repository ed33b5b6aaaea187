import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from study.planning import PlannedTrial
from study.pruning import CellScheduler, Rungs, score
from study.sections import Pruner
from tests.study.small_study import small_plan

METRIC = "val/accuracy"
FORGETS = {"val/accuracy": 0.8, "val/forgetting": 0.3, "val/average_anytime_accuracy": 0.7}


def accuracy(value: float) -> dict[str, float]:
    return {METRIC: value}


def test_what_rungs_compare() -> None:
    def by(sign: int = 1, metric: str = METRIC, **pruner: Any) -> float:
        return score(Pruner(**pruner), sign, metric, FORGETS)

    assert by() == 0.8
    assert by(metric="val/forgetting", sign=-1) == -0.3
    # All other criteria are metrics of which more is better, whatever the objective is.
    assert by(metric="val/forgetting", sign=-1, criterion="accuracy") == 0.8
    assert by(sign=-1, criterion="average_anytime_accuracy") == 0.7
    assert by(sign=-1, criterion="accuracy_minus_forgetting") == pytest.approx(0.5)
    weighted = by(criterion="accuracy_minus_forgetting", forgetting_weight=2.0)
    assert weighted == pytest.approx(0.2)
    assert by(criterion="accuracy_minus_forgetting", forgetting_weight=0) == 0.8


def test_nothing_is_forgotten_after_one_task() -> None:
    pruner = Pruner(criterion="accuracy_minus_forgetting")
    assert score(pruner, 1, METRIC, accuracy(0.9)) == 0.9
    assert math.isnan(score(pruner, 1, METRIC, {}))


def test_rungs_grow_by_the_reduction_and_stop_before_the_last_task() -> None:
    def rungs(pruner: Pruner, tasks: int) -> tuple[int, ...]:
        return Rungs(pruner, tasks, 1, METRIC).tasks

    assert rungs(Pruner(first_rung=2, reduction=3), 18) == (2, 6)
    assert rungs(Pruner(first_rung=2, reduction=3), 19) == (2, 6, 18)
    assert rungs(Pruner(kind="none"), 50) == ()
    assert rungs(Pruner(first_rung=9), 9) == ()


def test_the_best_share_goes_on() -> None:
    rungs = Rungs(Pruner(first_rung=2, reduction=2), 4, 1, METRIC)
    assert not rungs.prunes("a", 1, accuracy(0.1))
    assert [
        rungs.prunes(trial, 2, accuracy(value))
        for trial, value in zip("abcd", (5, 4, 6, 5), strict=True)
    ] == [
        False,  # the first
        True,  # second of two
        False,  # first of three, two go on
        False,  # second of four
    ]


def test_less_can_be_better_and_nan_is_worst() -> None:
    rungs = Rungs(Pruner(first_rung=2), 4, -1, METRIC)
    assert not rungs.prunes("nan", 2, accuracy(math.nan))
    assert not rungs.prunes("b", 2, accuracy(0.3))
    assert rungs.prunes("c", 2, accuracy(0.4))
    assert not rungs.prunes("d", 2, accuracy(0.2))


def test_a_value_reported_again_counts_once() -> None:
    rungs = Rungs(Pruner(first_rung=2, reduction=2), 4, 1, METRIC)
    for _ in range(5):
        assert not rungs.prunes("a", 2, accuracy(0.5))
    assert not rungs.prunes("b", 2, accuracy(0.5))
    assert rungs.prunes("c", 2, accuracy(0.4))


class Cells:
    """Reports results of trials as Tune does and says what is decided."""

    def __init__(self, **changes: Any) -> None:
        pruner = {"first_rung": 1, "reduction": 2}
        self.plan = small_plan(**{"pruner": pruner, **changes})
        self.trials: dict[str, PlannedTrial] = {}
        self.scheduler = CellScheduler(self.plan.spec, self.trials.__getitem__)

    def trial(self, name: str, cell: int = 0, role: Any = "search") -> PlannedTrial:
        searched = {"optim.lr": 1e-3 + ord(name[0]) / 1e6}
        if name not in self.trials:
            self.trials[name] = self.plan.cells[cell].trial(role, searched, 0)
        return self.trials[name]

    def report(self, name: str, result: dict[str, Any], cell: int = 0, role: Any = "search") -> str:
        trial: Any = SimpleNamespace(trial_id=name)
        self.trial(name, cell, role)
        return self.scheduler.on_trial_result(None, trial, {"task": 1, **result})


def test_cells_are_never_compared() -> None:
    cells = Cells()
    assert cells.report("a", accuracy(0.9), cell=0) == "CONTINUE"
    assert cells.report("b", accuracy(0.1), cell=1) == "CONTINUE"
    assert cells.report("c", accuracy(0.8), cell=0) == "STOP"


def test_confirmations_are_never_pruned() -> None:
    cells = Cells()
    assert cells.report("a", accuracy(0.9)) == "CONTINUE"
    assert cells.report("b", {"test/accuracy": 0.1}, role="confirm") == "CONTINUE"


def test_a_trial_that_cannot_go_on_is_passed_over() -> None:
    cells = Cells()
    failed = {"failed": "FloatingPointError: the training loss must be finite", "done": True}
    assert cells.report("a", failed) == "CONTINUE"
    # It is not at the rung either, where it would have been the first of two.
    assert cells.report("b", accuracy(0.9)) == "CONTINUE"
    assert cells.report("c", accuracy(0.8)) == "STOP"


def test_the_criterion_is_that_of_the_study_file() -> None:
    fast, slow = FORGETS, {**FORGETS, "val/accuracy": 0.7, "val/forgetting": 0.0}
    for criterion, decision in (("accuracy", "STOP"), ("accuracy_minus_forgetting", "CONTINUE")):
        cells = Cells(pruner={"first_rung": 2, "reduction": 2, "criterion": criterion})
        assert cells.report("fast", {"task": 2, **fast}, cell=1) == "CONTINUE"
        assert cells.report("slow", {"task": 2, **slow}, cell=1) == decision


def test_a_search_ends_at_the_last_task_it_may_see_and_a_confirmation_does_not() -> None:
    cells = Cells(
        grid={"method.name": ["inflora"], "data.tasks": [4]},
        search={"space": "all", "protocol": "first_k_tasks", "first_tasks": 2},
    )
    assert cells.report("a", accuracy(0.9)) == "CONTINUE"
    assert cells.report("a", {**accuracy(0.9), "task": 2}) == "STOP"
    assert cells.report("b", {"test/accuracy": 0.9, "task": 2}, role="confirm") == "CONTINUE"


def test_rungs_of_an_earlier_session_are_recalled() -> None:
    before, after = Cells(), Cells()
    for name, value in (("a", 0.9), ("b", 0.5), ("c", 0.7)):
        cut = before.report(name, accuracy(value)) == "STOP"
        # Told so, a resumed study can end a trial that was to end when it was killed.
        assert after.scheduler.recall(before.trial(name), 1, accuracy(value)) == cut
    assert after.report("d", accuracy(0.6)) == "STOP"  # third of four
    assert after.report("e", accuracy(0.8)) == "CONTINUE"  # second of five


class Recorded:
    """A cell that was searched without pruning: how each setting went on is known.

    The higher learning rates start better and forget; 5e-5 starts below four of the others, has
    lost nothing after four tasks and ends best of all.
    """

    def __init__(self) -> None:
        path = Path(__file__).with_name("recorded_curves.json")
        trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
        self.curves = {one["optim.lr"]: self._curve(one) for one in trials}
        self.rates = sorted(self.curves, reverse=True)
        self.tasks = len(self.curves[self.rates[0]])

    def survivors(self, order: Sequence[float], **pruner: Any) -> list[float]:
        """Which learning rates see all tasks if they are tried one after the other."""
        rungs = Rungs(Pruner(**pruner), self.tasks, 1, METRIC)
        return [
            rate
            for rate in order
            if not any(
                rungs.prunes(str(rate), task, metrics)
                for task, metrics in enumerate(self.curves[rate], start=1)
            )
        ]

    def last(self, rate: float) -> float:
        return self.curves[rate][-1][METRIC]

    @staticmethod
    def _curve(trial: dict[str, Any]) -> list[dict[str, float]]:
        accuracies, means = trial["val/accuracy"], trial["val/average_anytime_accuracy"]
        curve = [
            {"val/accuracy": now, "val/average_anytime_accuracy": mean}
            for now, mean in zip(accuracies, means, strict=True)
        ]
        for metrics, forgotten in zip(curve[1:], trial["val/forgetting"], strict=True):
            metrics["val/forgetting"] = forgotten
        return curve


def test_a_setting_that_starts_low_and_forgets_less_survives() -> None:
    recorded = Recorded()
    stable = 5e-5
    assert max(recorded.rates, key=recorded.last) == stable
    for task in range(4):
        better = [recorded.curves[rate][task][METRIC] for rate in (3e-4, 2e-4, 1e-4)]
        assert recorded.curves[stable][task][METRIC] <= min(better)
    rung: dict[str, Any] = {"first_rung": 4, "reduction": 3}
    by_accuracy = recorded.survivors(recorded.rates, criterion="accuracy", **rung)
    assert by_accuracy == [5e-4, 3e-4, 2e-4, 1e-4]
    spared = recorded.survivors(recorded.rates, criterion="accuracy_minus_forgetting", **rung)
    assert spared == [5e-4, 3e-4, 2e-4, 1e-4, stable, 2e-5]
    assert max(spared, key=recorded.last) == stable
    # Without weight forgetting decides nothing.
    unweighted = recorded.survivors(
        recorded.rates, criterion="accuracy_minus_forgetting", forgetting_weight=0, **rung
    )
    assert unweighted == by_accuracy


def test_it_survives_whatever_came_before_it() -> None:
    recorded = Recorded()
    rng = random.Random(0)
    killed = dict.fromkeys(("accuracy", "accuracy_minus_forgetting"), 0)
    for _ in range(200):
        order = rng.sample(recorded.rates, len(recorded.rates))
        for criterion in killed:
            kept = recorded.survivors(order, criterion=criterion, first_rung=4, reduction=3)
            killed[criterion] += 5e-5 not in kept
    assert killed["accuracy"] > 20
    assert killed["accuracy_minus_forgetting"] == 0
