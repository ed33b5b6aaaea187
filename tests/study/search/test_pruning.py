import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from study.planning.sections import Pruner
from study.search.pruning import Rungs, score

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
    # Nothing is forgotten after one task.
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
    def pruned(results: list[tuple[str, float]], sign: int = 1, **pruner: Any) -> list[bool]:
        rungs = Rungs(Pruner(first_rung=2, **pruner), 4, sign, METRIC)
        assert not rungs.prunes("early", 1, accuracy(0.1))
        return [rungs.prunes(trial, 2, accuracy(value)) for trial, value in results]

    # The first; second of two; first of three, of which two go on; second of four.
    results: list[tuple[str, float]] = [("a", 5), ("b", 4), ("c", 6), ("d", 5)]
    assert pruned(results, reduction=2) == [False, True, False, False]
    # Less can be better, and NaN is worst.
    results = [("nan", math.nan), ("b", 0.3), ("c", 0.4), ("d", 0.2)]
    assert pruned(results, sign=-1) == [False, False, True, False]
    # A value that is reported again counts once.
    results = [*[("a", 0.5)] * 5, ("b", 0.5), ("c", 0.4)]
    assert pruned(results, reduction=2) == [False] * 6 + [True]


class Recorded:
    """A cell that was searched without pruning: how each setting went on is known.

    The higher learning rates start better and forget; 5e-5 starts below four of the others, has
    lost nothing after four tasks and ends best of all.
    """

    def __init__(self) -> None:
        path = Path(__file__).with_name("recorded_curves.json")
        trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
        self.curves = {trial["optim.lr"]: self._curve(trial) for trial in trials}
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
        keys = (METRIC, "val/average_anytime_accuracy", "val/forgetting")
        columns = (trial[keys[0]], trial[keys[1]], [0.0, *trial[keys[2]]])
        return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


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
    rung["criterion"] = "accuracy_minus_forgetting"
    spared = recorded.survivors(recorded.rates, **rung)
    assert spared == [5e-4, 3e-4, 2e-4, 1e-4, stable, 2e-5]
    # Without weight forgetting decides nothing.
    assert recorded.survivors(recorded.rates, forgetting_weight=0, **rung) == by_accuracy
    # It survives whatever came before it.
    rng = random.Random(0)
    killed = dict.fromkeys(("accuracy", "accuracy_minus_forgetting"), 0)
    for _ in range(200):
        order = rng.sample(recorded.rates, len(recorded.rates))
        for criterion in killed:
            kept = recorded.survivors(order, criterion=criterion, first_rung=4, reduction=3)
            killed[criterion] += 5e-5 not in kept
    assert killed["accuracy"] > 20
    assert killed["accuracy_minus_forgetting"] == 0
