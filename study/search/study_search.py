"""StudySearch: which trial runs next, over all cells of a study; nothing here knows of Ray."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from study.ledger import CellTimes, Journal, Record, records
from study.planning import Cell, Plan, PlannedTrial
from study.planning.sections import Budget
from study.search.cell_search import CellSearch
from study.search.order import Order
from study.search.past_trials import PastTrials
from study.search.rounds import Rounds

HOUR = 3600.0
NODE_LOSSES = 10


@dataclass(frozen=True)
class Start:
    """A trial to start now; `times` is how often it was handed out before in this session.

    `goes_on`: it has begun before, and goes on from its checkpoint.
    """

    trial: PlannedTrial
    goes_on: bool
    times: int


@dataclass(frozen=True)
class _Live:
    """A trial that was handed out and has not ended; `curve` has its metrics by tasks seen."""

    trial: PlannedTrial
    curve: dict[int, Mapping[str, float]]


class StudySearch:
    """Hands out the trials of a study, is told how they end, and names the winners.

    Trials that an earlier session has left unfinished go first, then the longest chain of a search
    and its confirmation; see `Order`. A cell is confirmed once its search is over, and with it
    the cells that take its settings over; `Rounds` says on which further seeds. A trial that fails
    is handed out again, as often as `Restarts` says.

    What the journal's history has launched (`past`, as the plan has it) is never launched again.
    `slots` is how many trials may run at the same time: nothing is handed out beyond, so that every
    proposal knows all results there are. `gpus` is what a trial takes of a GPU.
    """

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        past: PastTrials,
        slots: Callable[[], int],
        gpus: float = 0.0,
    ) -> None:
        self._spec = plan.spec
        self._journal = journal
        self._slots = slots
        self._gpus = gpus
        self._past = past
        self._searches = {
            cell.id: CellSearch(cell, plan.spec, cell.first)
            for cell in plan.cells
            if cell.tuned_in is None
        }
        self._followers = {
            tuned: [cell for cell in plan.cells if cell.tuned_in == tuned]
            for tuned in self._searches
        }
        self._unsettled = list(self._searches)
        self._confirmations: list[PlannedTrial] = []
        # Of each confirmation, the search trial that has the same settings; by id.
        self._of: dict[str, str] = {}
        self._order = Order(plan.spec.trials, plan.cells)
        self._rounds = Rounds(plan, journal)
        self._cells = {cell.id: cell for cell in plan.cells}
        self._settled: set[str] = set()
        self._known: set[str] = set()
        self._live: dict[str, _Live] = {}
        self._restarts = Restarts(plan.spec.retries)
        self._times: Counter[str] = Counter()
        self._recall()
        self._unfinished = self._past.unfinished

    @property
    def live(self) -> list[PlannedTrial]:
        """Trials that were handed out and have not ended, also those that wait for a restart."""
        waiting = [trial for trial in self._unfinished if trial.id in self._times]
        return [*(running.trial for running in self._live.values()), *waiting]

    def next(self) -> Start | Literal["wait", "over"]:
        """The trial to start now; "wait" until one ends; "over" when all have ended."""
        if self._unfinished:
            # They run, or they would be counted as ended: nothing is settled before.
            if len(self._live) >= self._slots():
                return "wait"
            trial = self._unfinished.pop(0)
            # What is recorded already counts, also where it has to be trained again.
            return self._start(trial, dict(self._journal.history.trials[trial.id].curve), True)
        self._settle()
        if len(self._live) >= self._slots():
            return "wait"
        launch = self._launch()
        if launch is None:
            # A trial that runs may have to be handed out again.
            open_ends = self._unsettled or self._confirmations or self._live
            return "over" if not open_ends and self._rounds.over else "wait"
        trial, record = launch
        self._known.add(trial.id)
        self._journal.append(record)
        return self._start(trial, {}, False)

    def note(self, trial: PlannedTrial, task: int, metrics: Mapping[str, float]) -> None:
        """Takes what a running trial measured after a task."""
        if trial.id in self._live:
            self._live[trial.id].curve.setdefault(task, metrics)
            self._order.lengths.note(trial, {"task": task, **metrics})

    def fail(self, trial: PlannedTrial, node_failed: bool) -> bool:
        """Takes the failure of a running trial; whether it is handed out again."""
        if trial.id not in self._live or not self._restarts.goes_on(trial, node_failed):
            return False
        self._unfinished.append(trial)
        del self._live[trial.id]
        return True

    def end(self, trial: PlannedTrial, failed: bool, reason: str | None = None) -> None:
        """Takes the end of a running trial: all tasks seen, pruned before, or failed."""
        if trial.id not in self._live:
            return
        curve = self._live.pop(trial.id).curve
        if trial.role == "search":
            seen = "completed" if trial.tasks in curve else "pruned"
            outcome = _outcome("failed" if failed else seen, reason)
            self._searches[trial.cell].tell(trial.id, curve, outcome)

    def evaluated(self, trial: PlannedTrial) -> tuple[int, ...] | None:
        """The numbers of tasks after which a trial is evaluated; None: each."""
        return self._spec.evaluated(trial.role, trial.tasks)

    def restarts(self, trial: PlannedTrial) -> int:
        """How often a trial was handed out again, in this session."""
        return self._restarts.count(trial)

    def _recall(self) -> None:
        """Plays earlier sessions to the searches of all cells, in the order of the ledger."""
        history = self._journal.history
        # Of a trial that was interrupted and has ended since, the last end counts.
        last = {event.trial: at for at, event in enumerate(history.events) if event.kind == "end"}
        for at, (kind, name, _) in enumerate(history.events):
            trial = history.trials[name]
            if kind == "trial":
                self._known.add(name)
                if trial.role == "search":
                    self._searches[trial.cell].recall(self._past.planned(name), trial.sampler)
            elif kind == "end" and last[name] == at and trial.ended and trial.role == "search":
                outcome = _outcome(trial.status, trial.reason)
                self._searches[trial.cell].tell(name, trial.curve, outcome)
        for trial, task in history.results():
            planned = self._past.planned(trial.trial)
            self._order.lengths.note(planned, {"task": task.task, **task.metrics})

    def _start(
        self, trial: PlannedTrial, curve: dict[int, Mapping[str, float]], goes_on: bool
    ) -> Start:
        self._live[trial.id] = _Live(trial, curve)
        self._times[trial.id] += 1
        return Start(trial, goes_on, self._times[trial.id] - 1)

    def _launch(self) -> tuple[PlannedTrial, Record] | None:
        """The next trial that has not begun, and its record."""
        open_searches = self._order.searches(self._searches.values(), self.live)
        first = self._order.confirmation(self._confirmations, open_searches, self._slots())
        if first is None:
            for search in open_searches:
                proposal = search.ask()
                self._tell_passed_over(search)
                if proposal is not None:
                    trial = proposal.trial
                    return trial, trial.record(self._gpus, sampler=proposal.sampler)
            # Asking may have shown that a space is used up.
            self._settle()
            first = next(iter(self._confirmations), None)
        if first is None:
            return None
        self._confirmations.remove(first)
        return first, first.record(self._gpus, of=self._of[first.id])

    def _tell_passed_over(self, search: CellSearch) -> None:
        """Records once which settings that were to be tried first could not be."""
        for text in search.passed_over:
            note = records.note(search.cell.id, f"not tried first: {text}")
            if (note["cell"], note["text"]) not in self._journal.history.notes:
                self._journal.append(note)

    def _settle(self) -> None:
        """Names the winners of every cell whose search is over and queues their confirmation.

        Then takes the looks that are due and queues the seeds that they ask for.
        """
        before = len(self._settled)
        for cell_id in list(self._unsettled):
            search = self._searches[cell_id]
            times = self._journal.history.times
            if not search.exhausted and spent(self._spec.budget, times, cell_id, time.time()):
                search.close()
            if not search.over:
                continue
            self._unsettled.remove(cell_id)
            for cell in (search.cell, *self._followers[cell_id]):
                self._announce(cell, search)
                self._settled.add(cell.id)
                for point in search.front:
                    self._confirm(cell, point.trial.id, point.trial.searched, cell.seeds)
        # What earlier sessions have asked for counts once the winner is known to be the same.
        if self._rounds.take(self._settled) or len(self._settled) > before:
            history = self._journal.history
            for name, seeds in history.further_seeds().items():
                if name in self._settled and (winner := history.winners.get(name)) is not None:
                    self._confirm(self._cells[name], winner.trial, winner.searched, seeds)

    def _confirm(
        self, cell: Cell, of: str, searched: Mapping[str, Any], seeds: Sequence[int]
    ) -> None:
        """Queues the confirmations of a setting that were not launched before."""
        for seed in seeds:
            trial = cell.trial("confirm", searched, seed)
            if trial.id not in self._known:
                self._known.add(trial.id)
                self._of[trial.id] = of
                self._confirmations.append(trial)

    def _announce(self, cell: Cell, search: CellSearch) -> None:
        """Records what a cell's search has come to, unless that is recorded already."""
        history, winner = self._journal.history, search.winner
        if winner is None:
            reason = f"none of {search.launched} search trials saw all tasks"
            if not search.launched:
                reason = f"no setting that was proposed is valid: {search.refusal}"
            if cell.id not in history.failed_cells:
                self._journal.append(records.failed_cell(cell.id, reason))
            return
        known = history.winners.get(cell.id)
        if known is None or known.trial != winner.trial.id:
            trial, objective = winner.trial, next(iter(self._spec.objective))
            self._journal.append(
                records.winner(
                    cell.id, trial.id, trial.searched, winner.value, objective, winner.values
                )
            )
        if len(self._spec.objective) > 1:
            front = search.front
            before = [point.trial for point in history.fronts.get(cell.id, ())]
            if before != [point.trial.id for point in front]:
                points = [(point.trial.id, point.trial.searched, point.values) for point in front]
                self._journal.append(records.front(cell.id, points))


def spent(budget: Budget, times: CellTimes, cell: str, now: float) -> bool:
    """Whether a cell's search has come to a limit of the study file by `now` (unix seconds).

    Never before its first trial. The ledger tells the times, after a restore as before it.
    """
    used = (
        (budget.gpu_hours, times.gpu_seconds(cell, now) / HOUR),
        (budget.wall_hours, times.wall_seconds(cell, now) / HOUR),
    )
    over = any(limit is not None and hours >= limit for limit, hours in used)
    return times.begun(cell) and over


class Restarts:
    """How often each trial that failed was handed out again, in this session of a study.

    A trial that failed goes on `retries` times. The failure of its node does not count, but for
    what goes beyond NODE_LOSSES: it may be the trial that takes nodes down, say with their memory.
    """

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._counts: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()

    def goes_on(self, trial: PlannedTrial, node_failed: bool) -> bool:
        """Counts a failure, of the trial or of its node; whether it is handed out again."""
        if node_failed:
            self._losses[trial.id] += 1
            if self._losses[trial.id] <= NODE_LOSSES:
                return True
        if self._counts[trial.id] >= self._retries:
            return False
        self._counts[trial.id] += 1
        return True

    def count(self, trial: PlannedTrial) -> int:
        """How often the trial was handed out again for failures that count."""
        return self._counts[trial.id]


def _outcome(status: str, reason: str | None) -> Any:
    """What a search is told of the end of a trial."""
    return "infeasible" if status == "failed" and reason == "out_of_memory" else status
