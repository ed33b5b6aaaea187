"""A study in simulated time: the real StudySearcher and CellScheduler, no Ray and no training.

Trials replay recorded ones (recorded_trials.json). A hash of a trial's cell and settings decides
which recording of its method it replays, and a factor each for its seconds and its accuracies, so
that settings differ in what they cost and in how good they are. A cell of n tasks replays the
first n.
"""

import hashlib
import heapq
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.ledger import Record
from study.planning import Plan, PlannedTrial, make_plan
from study.pruning import CellScheduler
from study.restore import Past
from study.searcher import StudySearcher
from study.spec import StudySpec

RECORDED = Path(__file__).parent / "recorded_trials.json"
SECONDS = (0.75, 1.25)
ACCURACY = (0.5, 1.0)

T = TypeVar("T")


@dataclass(frozen=True)
class Curve:
    """A recorded trial: seconds of each task, and accuracy and forgetting after it."""

    seconds: Sequence[float]
    accuracy: Sequence[float]
    forgetting: Sequence[float]


@dataclass
class Outcome:
    """What a simulated study did; times in simulated seconds from its start."""

    slots: int
    launched: list[tuple[float, PlannedTrial]] = field(default_factory=list)
    ended: dict[str, float] = field(default_factory=dict)
    tasks: int = 0
    busy_seconds: float = 0.0
    # Moments at which a slot stayed free although a trial could have started, and how many could
    # (also those that a space with few settings does not have).
    missed: list[tuple[float, int]] = field(default_factory=list)
    decisions: int = 0
    deciding_seconds: float = 0.0  # of this machine

    @property
    def makespan(self) -> float:
        """Seconds from the start to the last end."""
        return max(self.ended.values())

    @property
    def busy(self) -> float:
        """Share of all slots' time, from the start to the last end, in which a trial ran."""
        return self.busy_seconds / (self.slots * self.makespan)


def recorded() -> dict[str, list[Curve]]:
    """The recorded trials of each method."""
    plain = json.loads(RECORDED.read_text(encoding="utf-8"))["methods"]
    return {
        method: [Curve(one["seconds"], one["accuracy"], one["forgetting"]) for one in trials]
        for method, trials in plain.items()
    }


def study(methods: Sequence[str], tasks: Sequence[int], **changes: Any) -> Plan:
    """A study of each method at each number of tasks; `changes` are further keys of its file."""
    plain = {
        "name": "simulated",
        "question": "Are all GPUs busy to the end?",
        "grid": {"method.name": list(methods), "data.tasks": list(tasks)},
        "fixed": {"data.name": "icons", "data.classes": 200, "backbone.name": "compact_vit"},
        **changes,
    }
    return make_plan(StudySpec.from_plain(plain, source="simulated"))


class Simulation:
    """Plays Tune's part: starts what is suggested on free slots, reports task after task.

    Args:
        plan: the study; its cells' methods must be among `curves`.
        slots: trials that run at the same time, each on a GPU of its own.
        curves: recorded trials by method.
        slow: factor of a trial's seconds, beside the drawn one.
    """

    def __init__(
        self,
        plan: Plan,
        slots: int,
        curves: dict[str, list[Curve]],
        slow: Callable[[PlannedTrial], float] = lambda trial: 1.0,
    ) -> None:
        self._plan = plan
        self._curves = curves
        self._tasks = {cell.id: cell.tasks for cell in plan.cells}
        self._slow = slow
        self._outcome = Outcome(slots)
        self._past = Past([], plan, Path())
        self._searcher = StudySearcher(plan, lambda: slots, self._record, self._past)
        self._scheduler = CellScheduler(plan.spec, self._searcher.planned)
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, str, int]] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def run(self) -> Outcome:
        """Simulates the study from its start to its last end."""
        self._start(0.0)
        while self._events:
            now, _, ray_id, task = heapq.heappop(self._events)
            if self._goes_on(ray_id, task, now):
                self._schedule(ray_id, task + 1, now)
            else:
                self._start(now)
        return self._outcome

    def _start(self, now: float) -> None:
        """Asks for trials until there is none or no slot."""
        free = self._outcome.slots - len(self._events)
        while free:
            ray_id = str(next(self._numbers))
            suggested = self._timed(lambda name=ray_id: self._searcher.suggest(name))  # type: ignore[misc]
            if suggested is None or suggested == Searcher.FINISHED:
                break
            trial = self._searcher.planned(ray_id)
            self._counts[trial.cell, trial.role] += 1
            self._outcome.launched.append((now, trial))
            self._schedule(ray_id, 1, now)
            free -= 1
        startable = self._startable() if free else 0
        if startable:
            self._outcome.missed.append((now, startable))

    def _schedule(self, ray_id: str, task: int, now: float) -> None:
        seconds = self._seconds(self._searcher.planned(ray_id), task)
        self._outcome.busy_seconds += seconds
        heapq.heappush(self._events, (now + seconds, next(self._numbers), ray_id, task))

    def _seconds(self, trial: PlannedTrial, task: int) -> float:
        low, high = SECONDS
        factor = low + (high - low) * _draw(trial, "seconds")
        return self._curve(trial).seconds[task - 1] * factor * self._slow(trial)

    def _goes_on(self, ray_id: str, task: int, now: float) -> bool:
        """Reports a result as Tune does; False where the trial ends with it."""
        trial = self._searcher.planned(ray_id)
        result = self._result(trial, task)
        self._outcome.tasks += 1
        decision = TrialScheduler.STOP
        if task < self._tasks[trial.cell]:
            known: Any = SimpleNamespace(trial_id=ray_id)
            decision = self._timed(lambda: self._scheduler.on_trial_result(None, known, result))
        if decision == TrialScheduler.CONTINUE:
            self._timed(lambda: self._searcher.on_trial_result(ray_id, result))
            return True
        self._timed(lambda: self._searcher.on_trial_complete(ray_id, result))
        self._outcome.ended[trial.id] = now
        self._counts[trial.cell, f"{trial.role} ended"] += 1
        return False

    def _result(self, trial: PlannedTrial, task: int) -> dict[str, Any]:
        """A result as ContinualTrainable's, flattened by Tune."""
        low, high = ACCURACY
        factor = low + (high - low) * _draw(trial, "accuracy")
        curve = self._curve(trial)
        accuracies = [factor * one for one in curve.accuracy[:task]]
        split = "val" if trial.role == "search" else "test"
        metrics = {
            f"{split}/accuracy": accuracies[-1],
            f"{split}/average_anytime_accuracy": sum(accuracies) / task,
            f"{split}/forgetting": factor * curve.forgetting[task - 1],
            "time/train_seconds": self._seconds(trial, task),
        }
        seen = {f"metrics/{name}": value for name, value in metrics.items()}
        return {**metrics, **seen, "task": task, "done": task == self._tasks[trial.cell]}

    def _curve(self, trial: PlannedTrial) -> Curve:
        curves = self._curves[str(trial.params["method.name"])]
        return curves[int(_draw(trial, "curve") * len(curves))]

    def _startable(self) -> int:
        """How many trials could start now, told from what was launched and what has ended."""
        startable = 0
        for cell in self._plan.cells:
            searches = self._plan.spec.trials if cell.searches else 0
            startable += searches - self._counts[cell.id, "search"]
            if self._counts[cell.id, "search ended"] == searches:
                startable += len(cell.seeds) - self._counts[cell.id, "confirm"]
        return startable

    def _record(self, record: Record) -> None:
        self._past.add(record)
        if record["kind"] == "failed_cell":
            raise RuntimeError(f"every cell must have a winner, but {record['cell']} has none.")

    def _timed(self, decide: Callable[[], T]) -> T:
        start = time.perf_counter()
        answer = decide()
        self._outcome.deciding_seconds += time.perf_counter() - start
        self._outcome.decisions += 1
        return answer


def _draw(trial: PlannedTrial, what: str) -> float:
    """A number in [0, 1) that a trial's cell and settings decide."""
    settings = json.dumps(dict(trial.searched), sort_keys=True)
    digest = hashlib.sha256(f"{trial.cell} {settings} {what}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
