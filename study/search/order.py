"""What runs next: the longest chain of trials first, so that all slots are busy to the end."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from study.ledger import compute_seconds
from study.planning import Cell, PlannedTrial
from study.search.cell_search import CellSearch

# While other cells wait, a cell has at most this share of its search trials running: a sampler
# learns nothing from trials that all started together.
SHARE = 1 / 4
# A search not yet begun counts as this many full trials one after the other, most of them pruned.
SEARCH = 8


class Lengths:
    """Seconds that trials take, learned from the tasks seen so far; until then, tasks."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        # By cell, and under None of all cells: for each task, sum of seconds and how many.
        self._paces: dict[str | None, dict[int, tuple[float, int]]] = defaultdict(dict)

    def note(self, trial: PlannedTrial, result: Mapping[str, Any]) -> None:
        """Takes a result: `task`, and the seconds of its parts where they are known."""
        seconds = compute_seconds(result)
        if not seconds > 0:
            return
        task = result["task"]
        if trial.role == "search":
            self._seconds[_settings(trial)][task] = seconds
        for key in (trial.cell, None):
            total, count = self._paces[key].get(task, (0.0, 0))
            self._paces[key][task] = (total + seconds, count + 1)

    def of(self, cell: str, tasks: int) -> float:
        """What a trial of `cell` takes for `tasks` tasks; later ones are as long as the last seen.

        Of a cell without any result, what the others take.
        """
        pace = self._paces.get(cell) or self._paces.get(None)
        if not pace:
            return float(tasks)
        last = max(pace)
        seen = sum(total / count for task, (total, count) in pace.items() if task <= tasks)
        return seen + max(0, tasks - last) * pace[last][0] / pace[last][1]

    def of_confirmation(self, trial: PlannedTrial) -> float:
        """What a confirmation takes, from the search trial with the same settings if there is."""
        seen = self._seconds.get(_settings(trial))
        if not seen:
            return self.of(trial.cell, trial.tasks)
        return sum(seen.values()) / len(seen) * trial.tasks


class Order:
    """Which of the trials that could start does.

    The end of a study is a search trial, then the confirmation it leads to; what can run beside
    them to the last must still be there then. So a search is worth its whole chain, a
    confirmation itself only, and the longest goes first. Where further seeds may follow one after
    the other, they belong to the chain of what they wait for, and wait for the first seeds of all
    cells: a study that is ended early has looked at each contrast before it looks at any again.
    Among further seeds earlier ones go first, however short their trials are: a look waits for the
    last of a pair, and it may make later seeds needless.
    As results should not wait longer than that needs, no more confirmations on first seeds are
    held back than could fill the slots twice; with a single slot, none.
    """

    def __init__(self, trials: int, cells: Sequence[Cell] = ()) -> None:
        self.lengths = Lengths()
        self._trials = trials
        self._further = {(cell.id, seed) for cell in cells for seed in cell.further}
        # How many further seeds may still wait for a cell's confirmation on a seed.
        self._behind = {
            (cell.id, seed): len(cell.further) - at
            for cell in cells
            if cell.further
            for at, seeds in enumerate((cell.seeds, *((seed,) for seed in cell.further)))
            for seed in seeds
        }

    def searches(
        self, searches: Iterable[CellSearch], live: Iterable[PlannedTrial]
    ) -> list[CellSearch]:
        """Those that may propose a trial, first the one that should."""
        running = Counter(trial.cell for trial in live if trial.role == "search")
        limit = max(1.0, SHARE * self._trials)
        return sorted(
            (search for search in searches if not search.exhausted),
            key=lambda search: (
                running[search.cell.id] >= limit,
                -self._chain(search),
                search.launched,
            ),
        )

    def confirmation(
        self, waiting: Sequence[PlannedTrial], searches: Sequence[CellSearch], slots: int
    ) -> PlannedTrial | None:
        """The confirmation to launch before any of `searches`; None if one of those goes first."""
        first = [trial for trial in waiting if (trial.cell, trial.seed) not in self._further]
        longest = max(first or waiting, key=self._urgency, default=None)
        if longest is None or not searches or len(first) > 2 * (slots - 1):
            return longest
        if not first:
            return None
        chain = max(self._chain(search) for search in searches)
        return longest if self._rest(longest) >= chain else None

    def _urgency(self, trial: PlannedTrial) -> tuple[int, float]:
        """Of further seeds the earliest come first, then what takes longest to its end."""
        further = (trial.cell, trial.seed) in self._further
        return self._behind[trial.cell, trial.seed] if further else 0, self._rest(trial)

    def _rest(self, trial: PlannedTrial) -> float:
        """Seconds from the start of a confirmation to the end of what may have to follow it."""
        behind = self._behind.get((trial.cell, trial.seed), 0)
        return self.lengths.of_confirmation(trial) * (1 + behind)

    def _chain(self, search: CellSearch) -> float:
        """Seconds from the next trial of a search to the end of the cell's confirmations."""
        cell = search.cell
        left = 1 - search.launched / self._trials
        trial = self.lengths.of(cell.id, cell.search_tasks)
        confirmed = self.lengths.of(cell.id, cell.tasks) * (1 + len(cell.further))
        return trial * (1 + SEARCH * left) + confirmed


def _settings(trial: PlannedTrial) -> tuple[str, str]:
    return trial.cell, json.dumps(dict(trial.searched), sort_keys=True, default=str)
