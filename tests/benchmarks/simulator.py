"""A study in simulated time: the real StudySearch and pruning, no Ray and no training.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from study.ledger import History, Journal, Record, records
from study.planning import Plan, PlannedTrial, StudySpec
from study.planning.plan import make_plan
from study.search import PastTrials, Rungs, Start, StudySearch

RECORDED = Path(__file__).parent / "recorded_trials.json"
SECONDS = (0.75, 1.25)
ACCURACY = (0.5, 1.0)

# Of a recorded trial: "seconds" of each task, "accuracy" and "forgetting" after it.
Curve = Mapping[str, Sequence[float]]
T = TypeVar("T")


@dataclass
class Outcome:
    """What a simulated study did; times in simulated seconds from its start."""

    slots: int
    launched: list[tuple[float, PlannedTrial]] = field(default_factory=list)
    ended: dict[str, float] = field(default_factory=dict)
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
    found: dict[str, list[Curve]] = json.loads(RECORDED.read_text(encoding="utf-8"))["methods"]
    return found


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
    """Starts what the search hands out on free slots, and tells it what is measured.

    Args:
        plan: the study; its cells' methods must be among `curves`.
        slots: trials that run at the same time, each on a GPU of its own.
        curves: recorded trials by method.
        slow: factor of a trial's seconds, beside the drawn one.
        observe: is told of the time and the history whenever a trial has ended; only then are
            tasks and ends recorded, which contrasts wait for.
    """

    def __init__(
        self,
        plan: Plan,
        slots: int,
        curves: dict[str, list[Curve]],
        slow: Callable[[PlannedTrial], float] = lambda trial: 1.0,
        observe: Callable[[float, History], object] | None = None,
    ) -> None:
        self._plan = plan
        self._curves = curves
        self._slow = slow
        self._outcome = Outcome(slots)
        self._observe = observe
        self._now = 0.0
        history = History()
        history.contrasts = plan.contrasts
        self._journal = journal = Journal(self._record, history)
        past = PastTrials(journal.history, plan)
        self._search = StudySearch(plan, journal, past, lambda: slots)
        spec = plan.spec
        self._rungs = {
            cell.id: Rungs(spec.pruner, cell.search_tasks, spec.sign, spec.metric)
            for cell in plan.cells
        }
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, PlannedTrial, int]] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def run(self) -> Outcome:
        """Simulates the study from its start to its last end."""
        self._start(0.0)
        while self._events:
            now, _, trial, task = heapq.heappop(self._events)
            self._now = now
            if not self._timed(partial(self._ends, trial, task, self._metrics(trial, task))):
                self._schedule(trial, task + 1, now)
                continue
            self._outcome.ended[trial.id] = now
            self._counts[trial.cell, f"{trial.role} ended"] += 1
            self._start(now)
            if self._observe is not None:
                self._observe(now, self._journal.history)
        return self._outcome

    def _start(self, now: float) -> None:
        """Asks for trials until there is none or no slot."""
        free = self._outcome.slots - len(self._events)
        while free:
            start = self._timed(self._search.next)
            if not isinstance(start, Start):
                break
            self._counts[start.trial.cell, start.trial.role] += 1
            self._outcome.launched.append((now, start.trial))
            self._schedule(start.trial, 1, now)
            free -= 1
        if free and (startable := self._startable()):
            self._outcome.missed.append((now, startable))

    def _schedule(self, trial: PlannedTrial, task: int, now: float) -> None:
        seconds = self._seconds(trial, task)
        self._outcome.busy_seconds += seconds
        heapq.heappush(self._events, (now + seconds, next(self._numbers), trial, task))

    def _seconds(self, trial: PlannedTrial, task: int) -> float:
        factor = _draw(trial, "seconds", SECONDS)
        return self._curve(trial)["seconds"][task - 1] * factor * self._slow(trial)

    def _ends(self, trial: PlannedTrial, task: int, metrics: dict[str, float]) -> bool:
        """As Tune does: pruning decides first, then the search is told."""
        ends = task == trial.tasks or (
            trial.role == "search" and self._rungs[trial.cell].prunes(trial.id, task, metrics)
        )
        self._search.note(trial, task, metrics)
        if self._observe is not None:
            self._journal.append(records.task(trial.id, task, metrics, [0.5] * task))
        if ends and self._observe is not None:
            status: records.Status = "completed" if task == trial.tasks else "pruned"
            self._journal.append(records.end(trial.id, status))
        if ends:
            self._search.end(trial, failed=False)
        return ends

    def _metrics(self, trial: PlannedTrial, task: int) -> dict[str, float]:
        """What a trial measures after a task."""
        factor = _draw(trial, "accuracy", ACCURACY)
        curve = self._curve(trial)
        accuracies = [factor * accuracy for accuracy in curve["accuracy"][:task]]
        split = "val" if trial.role == "search" else "test"
        return {
            f"{split}/accuracy": accuracies[-1],
            f"{split}/average_anytime_accuracy": sum(accuracies) / task,
            f"{split}/forgetting": factor * curve["forgetting"][task - 1],
            "time/train_seconds": self._seconds(trial, task),
        }

    def _record(self, record: Record) -> Record:
        if record["kind"] == "failed_cell":
            raise RuntimeError(f"every cell must have a winner, but {record['cell']} has none.")
        plain: Record = json.loads(json.dumps(record), parse_constant=lambda name: None)
        return {**plain, "time": self._now}

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

    def _timed(self, decide: Callable[[], T]) -> T:
        start = time.perf_counter()
        answer = decide()
        self._outcome.deciding_seconds += time.perf_counter() - start
        self._outcome.decisions += 1
        return answer


def _draw(trial: PlannedTrial, what: str, within: tuple[float, float] = (0.0, 1.0)) -> float:
    """A number from the first bound up to the second that a trial's cell and settings decide."""
    settings = json.dumps(dict(trial.searched), sort_keys=True)
    digest = hashlib.sha256(f"{trial.cell} {settings} {what}".encode()).digest()
    low, high = within
    return low + (high - low) * int.from_bytes(digest[:4], "big") / 2**32
