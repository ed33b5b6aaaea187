"""What is left of a study that runs: trials, and seconds by the lengths of the trials so far."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from study.ledger import History, TrialHistory, is_open
from study.planning.cells import Cell, Plan, Role
from study.planning.costs.forecast import search_trials, tasks_left

# What was seen of pruning counts against what its rule lets expect as so many trials do.
PRIOR = 3
# Relative: of the length of a trial where too few were seen, of what a cell takes from others.
UNSEEN, BORROWED = 0.25, 0.4
# The part of a trial by which the last slot ends later, with the longest trials first.
UNEVEN = 0.25
# The error that is told, in standard errors.
ERRORS = 2
OTHER: Mapping[Role, Role] = {"search": "confirm", "confirm": "search"}


@dataclass(frozen=True)
class Remaining:
    """Trials that ended, run and are planned, and the seconds that are left.

    What is called most is with every seed that an open contrast may still ask for, the other
    without any. Seconds are None before a task was measured, each has its error.
    """

    ended: int
    running: int
    planned: int
    most_planned: int
    seconds: float | None = None
    most_seconds: float | None = None
    error: float = 0.0
    most_error: float = 0.0


@dataclass
class _Work:
    """Seconds of trials one after the other, their variance, and what cannot run side by side.

    `last` are the seconds of a trial that the cell may end with.
    """

    seconds: float = 0.0
    variance: float = 0.0
    chain: float = 0.0
    last: float = 0.0


class _Cells:
    """What the trials of each cell take, and how many see how many tasks."""

    def __init__(self, plan: Plan, history: History) -> None:
        self._plan = plan
        self._history = history
        self._own: dict[tuple[str, Role], dict[int, tuple[float, float]]] = {
            (cell.id, role): history.pace.tasks(cell.id, role)
            for cell in plan.cells
            for role in OTHER
        }
        self.measured = [
            cell for cell in plan.cells if any(self._own[cell.id, role] for role in OTHER)
        ]

    def lengths(self, cell: Cell, role: Role) -> list[float]:
        """Seconds of each task of a trial, the last of them as long as the last that was seen."""
        own, other = self._own[cell.id, role], self._own[cell.id, OTHER[role]]
        if not own and not other:
            return self._borrowed(cell, role)
        both = own.keys() & other.keys()
        ratio = self._factor(cell) if role == "confirm" else 1.0
        if both:
            ratio = sum(own[at][0] for at in both) / sum(other[at][0] for at in both)
        known = {at: mean * ratio for at, (mean, _) in other.items()}
        known |= {at: mean for at, (mean, _) in own.items()}
        found: list[float] = []
        for task in range(1, cell.tasks + 1):
            found.append(known.get(task, found[-1] if found else known[min(known)]))
        return found

    def spread(self, cell: Cell, role: Role) -> float:
        """The relative standard deviation of a trial's length."""
        seen = self._own[cell.id, role] or self._own[cell.id, OTHER[role]]
        total = sum(mean for mean, _ in seen.values())
        found = sum(std for _, std in seen.values()) / total if total else UNSEEN
        # Of a few trials it may be anything.
        return math.hypot(found, UNSEEN) / math.sqrt(2)

    def _borrowed(self, cell: Cell, role: Role) -> list[float]:
        """The mean of the measured cells that agree with this one in most keys.

        Of as many images in more tasks, each task has fewer.
        """
        agreeing: dict[int, list[Cell]] = defaultdict(list)
        for other in self.measured:
            same = sum(other.key.get(key) == value for key, value in cell.key.items())
            agreeing[same].append(other)
        found = [0.0] * cell.tasks
        near = agreeing[max(agreeing)]
        for other in near:
            lengths, ratio = self.lengths(other, role), other.tasks / cell.tasks
            for at in range(cell.tasks):
                found[at] += lengths[int((at + 0.5) * ratio)] * ratio / len(near)
        return found

    def _factor(self, cell: Cell) -> float:
        """How much longer a trial of the settings to be confirmed takes than the mean."""
        winner = self._history.winners.get(cell.id)
        trial = None if winner is None else self._history.trials.get(winner.trial)
        if trial is None or not trial.task:
            return 1.0
        seen = self._own.get((trial.cell, "search"), {})
        mean = sum(seen[at][0] for at in trial.tasks if at in seen)
        return self._history.seconds_of(trial.trial) / mean if mean else 1.0


def remaining(plan: Plan, history: History, now: float) -> Remaining:
    """What is left of a study at `now` (unix seconds), as far as its history tells."""
    trials: dict[tuple[str, str], list[TrialHistory]] = defaultdict(list)
    for trial in history.trials.values():
        trials[trial.cell, trial.role].append(trial)
    cells = _Cells(plan, history)
    asked = history.further_seeds()
    open_cells = {
        name
        for pair in plan.contrasts
        if is_open(pair, history.looks.get(pair.name, ()), history.winners)
        for name in (pair.first, pair.second)
    }
    ended = sum(trial.ended for trial in history.trials.values())
    running = sum(trial.status == "running" for trial in history.trials.values())
    planned, most_planned = len(history.trials), len(history.trials)
    least, most = [], []
    for cell in plan.cells:
        if cell.id in history.failed_cells:
            continue
        searches, confirmed = trials[cell.id, "search"], trials[cell.id, "confirm"]
        settings = _settings(history, cell)
        if settings:
            confirmed = [trial for trial in confirmed if trial.searched in settings]
        closed = bool(settings)
        new = 0 if closed else max(0, search_trials(plan, cell) - len(searches))
        begun = {trial.seed for trial in confirmed}
        further = {*cell.further} if cell.id in open_cells else set()
        first = {*cell.seeds, *asked.get(cell.id, ())}
        count = max(1, len(settings))
        seeds = max(0, len(first) * count - len(confirmed))
        more = len(further - first - begun)
        planned += new + seeds
        most_planned += new + seeds + more
        if cells.measured:
            work = _Work()
            _add_searches(work, cells, plan, history, cell, searches, new, now)
            _add_confirmations(work, cells, history, cell, confirmed, (seeds, 0), now)
            least.append(work)
            work = replace(work)
            _add_confirmations(work, cells, history, cell, (), (more, more), now)
            most.append(work)
    if not cells.measured:
        return Remaining(ended, running, planned, most_planned)
    slots = max(1, history.pace.peak)
    seconds, error = _wall(least, slots)
    most_seconds, most_error = _wall(most, slots)
    return Remaining(
        ended, running, planned, most_planned, seconds, most_seconds, error, most_error
    )


def _settings(history: History, cell: Cell) -> list[Mapping[str, object]]:
    """The settings that a cell confirms, as far as they are known."""
    front = history.fronts.get(cell.id)
    if front is not None:
        return [point.searched for point in front]
    winner = history.winners.get(cell.id)
    return [] if winner is None else [winner.searched]


def _add_searches(
    work: _Work,
    cells: _Cells,
    plan: Plan,
    history: History,
    cell: Cell,
    trials: Sequence[TrialHistory],
    new: int,
    now: float,
) -> None:
    """Adds the search trials of a cell that run, and `new` ones."""
    open_trials = [trial for trial in trials if not trial.ended]
    if not new and not open_trials:
        return
    lengths = cells.lengths(cell, "search")[: cell.search_tasks]
    rates = _rates(plan, cell, trials)
    rests = []
    for trial in open_trials:
        left, chance = 0.0, 1.0
        for at in range(trial.task, len(lengths)):
            left += chance * lengths[at]
            chance *= rates[at]
        since = history.pace.running.get(trial.trial, now)
        rests.append(max(0.0, left - min(now - since, lengths[min(trial.task, len(lengths) - 1)])))
    reached = [1.0, *accumulate(rates, lambda a, b: a * b)]
    totals = list(accumulate(lengths))
    ends = [reached[at] - reached[at + 1] for at in range(len(lengths) - 1)]
    ends.append(1.0 - sum(ends))
    mean = sum(chance * total for chance, total in zip(ends, totals, strict=True))
    square = sum(chance * total**2 for chance, total in zip(ends, totals, strict=True))
    spread = cells.spread(cell, "search")
    variance = square - mean**2 + (spread * mean) ** 2
    seen = sum(trial.ended for trial in trials)
    work.seconds += sum(rests) + new * mean
    work.variance += (new + len(rests)) * variance + new**2 * variance / (seen + 1)
    if cell not in cells.measured:
        work.variance += (BORROWED * new * mean) ** 2
    work.chain += max(totals[-1] if new else 0.0, *rests, 0.0)


def _rates(plan: Plan, cell: Cell, trials: Sequence[TrialHistory]) -> list[float]:
    """For each task, the share of search trials that train the next one."""
    tasks = cell.search_tasks
    expected = [*tasks_left(plan.spec.pruner, max(1, search_trials(plan, cell)), tasks), 0.0]
    found = []
    for task in range(1, tasks + 1):
        prior = expected[task] / expected[task - 1] if expected[task - 1] else 0.0
        came = sum(trial.task > task for trial in trials)
        left = sum(trial.ended and trial.task == task for trial in trials)
        found.append((came + PRIOR * prior) / (came + left + PRIOR))
    return found


def _add_confirmations(
    work: _Work,
    cells: _Cells,
    history: History,
    cell: Cell,
    trials: Sequence[TrialHistory],
    new: tuple[int, int],
    now: float,
) -> None:
    """Adds the confirmations of a cell that run, and new ones: how many, in how many rounds."""
    count, rounds = new
    open_trials = [trial for trial in trials if not trial.ended]
    if not count and not open_trials:
        return
    lengths = cells.lengths(cell, "confirm")
    rests = []
    for trial in open_trials:
        since = history.pace.running.get(trial.trial, now)
        rests.append(max(0.0, sum(lengths[trial.task :]) - max(0.0, now - since)))
    each = sum(lengths)
    spread = cells.spread(cell, "confirm")
    if cell not in cells.measured:
        spread = BORROWED
    elif history.winners.get(cell.id) is not None:
        spread = min(spread, UNSEEN / 2)
    work.seconds += sum(rests) + count * each
    # Of the same setting they are long or short together.
    work.variance += (spread * (sum(rests) + count * each)) ** 2
    work.chain += max(max(1, rounds) * each if count else 0.0, *rests, 0.0)
    work.last = each if count else max(*rests, 0.0)


def _wall(cells: Sequence[_Work], slots: int) -> tuple[float, float]:
    """Seconds until all is done, and their error.

    Trials do not end together: the last slot is busy for a part of a trial longer than the mean.
    """
    work = sum(cell.seconds for cell in cells)
    longest = max(cells, key=lambda cell: cell.chain, default=_Work())
    last = sum(cell.last * cell.seconds for cell in cells) / work if work else 0.0
    uneven = UNEVEN * last * (1 - 1 / slots)
    shared = work / slots + uneven
    error = math.hypot(ERRORS * math.sqrt(sum(cell.variance for cell in cells)) / slots, 2 * uneven)
    if longest.chain > shared:
        relative = math.sqrt(longest.variance) / max(longest.seconds, 1e-9)
        error = max(error, ERRORS * relative * longest.chain)
    return max(shared, longest.chain), error
