"""Rounds: looks at a study's contrasts as their trials end, and the seeds that they ask for."""

import math
from collections.abc import Collection

from study.evidence import look
from study.ledger import (
    ContrastRecord,
    Journal,
    TrialHistory,
    in_points,
    is_open,
    present_looks,
    records,
    winners_of,
)
from study.planning import Plan


class Rounds:
    """Takes a look at each contrast once every trial has ended that the contrast waits for.

    A contrast waits for the seeds that all cells have and for those that its own looks have asked
    for, in both of its cells, and is looked at on these alone: what other contrasts do, how many
    trials run at a time and whether the study was killed in between changes none of its looks. All
    that is decided here follows from the journal's history.

    A seed that failed in one cell is left out; one whose metric is no number, NaN or never
    measured, settles nothing: see `study.evidence.look`. Of a cell without a winner there are no
    pairs.
    """

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self._plan = plan
        self._journal = journal
        self._cells = {cell.id: cell for cell in plan.cells}
        self._open = list(plan.contrasts)
        # The confirmation of a cell's winner on a seed: what it is takes a millisecond.
        self._names: dict[tuple[str, str, int], str] = {}

    @property
    def over(self) -> bool:
        """Whether no contrast is open any more, as far as `take` has seen."""
        return not self._open

    def take(self, settled: Collection[str]) -> bool:
        """Takes every look that is due; whether there was one.

        `settled` are the cells whose winner of now is known, or that there is none.
        """
        taken = False
        for contrast in list(self._open):
            if contrast.first in settled and contrast.second in settled:
                while self._is_open(contrast) and self._look(contrast):
                    taken = True
                if not self._is_open(contrast):
                    self._open.remove(contrast)
        return taken

    def _is_open(self, contrast: ContrastRecord) -> bool:
        history = self._journal.history
        return is_open(contrast, history.looks.get(contrast.name, ()), history.winners)

    def _look(self, contrast: ContrastRecord) -> bool:
        """Takes the next look at a contrast, unless a trial of it has not ended."""
        history = self._journal.history
        before = present_looks(contrast, history.looks.get(contrast.name, ()), history.winners)
        seeds = [*self._plan.spec.first_seeds, *(s for seen in before for s in seen.next_seeds)]
        first = self._values(contrast.first, contrast.metric, seeds)
        second = self._values(contrast.second, contrast.metric, seeds)
        if first is None or second is None:
            return False
        of = winners_of(contrast, history.winners)
        seen = look(
            contrast.name,
            first,
            second,
            design=self._plan.design,
            margin=self._plan.spec.margin,
            order=self._plan.order,
            # Further seeds are no help where a cell has no settings to run them with.
            tried=self._plan.order if None in of else seeds,
            non_inferiority=contrast.non_inferiority,
        )
        self._journal.append(records.look(**vars(seen), of=of))
        return True

    def _values(self, cell: str, metric: str, seeds: Collection[int]) -> dict[int, float] | None:
        """The metric by seed, in points; None where one of the trials has not ended."""
        if self._journal.history.winners.get(cell) is None:
            return {}
        ended: dict[int, TrialHistory] = {}
        for seed in seeds:
            trial = self._journal.history.trials.get(self._name(cell, seed))
            if trial is None or not trial.ended:
                return None
            ended[seed] = trial
        values = {seed: t.last(metric) for seed, t in ended.items() if t.status == "completed"}
        return {
            seed: math.nan if value is None else in_points(metric, value)
            for seed, value in values.items()
        }

    def _name(self, cell: str, seed: int) -> str:
        """The id of the confirmation of a cell's winner on a seed."""
        winner = self._journal.history.winners[cell]
        key = cell, winner.trial, seed
        if key not in self._names:
            self._names[key] = self._cells[cell].trial("confirm", winner.searched, seed).id
        return self._names[key]
