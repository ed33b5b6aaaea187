"""The search in one cell: asks a sampler for settings, tells it results, and names the winner."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from optuna.distributions import FloatDistribution

from study.planning import Cell, PlannedTrial, StudySpec, space
from study.search import points
from study.search.samplers import Known, Sampling

# Proposals in a row that the cell has tried already or that are invalid, before its space counts
# as explored; from `STUCK` in a row, proposals are random.
REPEATS = 20
# Points of a space that are gone through one by one once a sampler finds nothing new.
SMALL = 4096
STUCK = 10

Curve: TypeAlias = Mapping[int, Mapping[str, float | None]]
Outcome: TypeAlias = Literal["completed", "pruned", "failed", "infeasible"]


@dataclass(frozen=True)
class Proposal:
    """A search trial, and what the sampler has to be reminded of to go on after a stop.

    `sampler` is JSON: `asked` (false for settings that were tried first), `number` (of the
    proposal, refused ones counted; of the next one where the sampler was not asked) and `attrs`
    (what it noted).
    """

    trial: PlannedTrial
    sampler: dict[str, Any]


@dataclass(frozen=True)
class Winner:
    """One of the best search trials of a cell, and its objectives after the last task.

    `value` is the first of `values`; None where there was nothing to search: the trial was not
    run then.
    """

    trial: PlannedTrial
    value: float | None
    values: Mapping[str, float]


@dataclass
class Launched:
    """A trial that was handed out.

    `attrs` is what the sampler noted, `fits` whether it is a point of the space; `outcome` is None
    while it runs. `values` are the objectives of a completed trial, `stood` tasks seen and
    objective of a pruned one.
    """

    trial: PlannedTrial
    attrs: Mapping[str, Any]
    fits: bool = True
    outcome: Outcome | None = None
    values: tuple[float, ...] = ()
    stood: tuple[int, float] | None = None

    def end(self, curve: Curve, outcome: Outcome, objective: Sequence[str]) -> None:
        """Takes its end; a completed trial without a number for every objective has failed."""
        self.outcome = outcome
        if outcome == "completed":
            last = curve.get(self.trial.tasks, {})
            values = tuple(_value(last, metric) for metric in objective)
            if all(math.isfinite(value) for value in values):
                self.values = values
            else:
                self.outcome = "failed"
        elif outcome == "pruned" and len(objective) == 1:
            seen = {task: _value(metrics, objective[0]) for task, metrics in curve.items()}
            finite = {task: value for task, value in seen.items() if math.isfinite(value)}
            self.stood = max(finite.items(), default=None)

    def known(self) -> Known | None:
        """What a sampler may learn of it; None where that is nothing."""
        if not self.fits or self.outcome == "failed":
            return None
        if self.outcome == "pruned" and self.stood is None:
            return None
        return Known(
            self.trial.searched, self.attrs, self.outcome or "running", self.values, self.stood
        )


def _value(metrics: Mapping[str, float | None], metric: str) -> float:
    found = metrics.get(metric)
    return math.nan if found is None else found


class CellSearch:
    """Search trials of one cell, in memory; nothing here knows of Ray.

    What is proposed depends on the number of the proposal and the results so far only; see
    `study.search.samplers`. `refusal` tells why the latest invalid proposal was one, `passed_over`
    which of the settings to try first were not tried.

    `first` are settings to try before the sampler is asked. Those that were tried, that are no
    point of the space or do not fit together are left out, as are all with the sampler grid, which
    tries every point.
    """

    def __init__(
        self, cell: Cell, spec: StudySpec, first: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.cell = cell
        self._spec = spec
        self._first = [] if spec.sampler == "grid" else list(first)
        self._number = 0
        self._launched: dict[str, Launched] = {}
        self._explored = False
        self._closed = False
        self.refusal: str | None = None
        self.passed_over: list[str] = []

    @property
    def launched(self) -> int:
        """Number of search trials handed out so far."""
        return len(self._launched)

    @property
    def exhausted(self) -> bool:
        """Whether no further search trial will be handed out."""
        ended = self._explored or self._closed or self.launched >= self._spec.trials
        return ended or not self.cell.space

    @property
    def over(self) -> bool:
        """Whether all search trials have ended."""
        return self.exhausted and all(launched.outcome for launched in self._launched.values())

    @property
    def winner(self) -> Winner | None:
        """The best in the first objective of the trials that competed; None without any."""
        found = self.front
        return found[0] if found else None

    @property
    def front(self) -> tuple[Winner, ...]:
        """The completed trials that no other one beats in every objective.

        The best in the first objective comes first; of equal ones, the first launched is kept.
        """
        if not self.cell.space:
            return (Winner(self.cell.trial("search", {}, self.cell.search_seed), None, {}),)
        done = [launched for launched in self._launched.values() if launched.outcome == "completed"]
        best = [done[at] for at in front([launched.values for launched in done], self._spec.signs)]
        named = [dict(zip(self._spec.objective, launched.values, strict=True)) for launched in best]
        return tuple(
            Winner(launched.trial, launched.values[0], values)
            for launched, values in zip(best, named, strict=True)
        )

    def ask(self) -> Proposal | None:
        """The next search trial; None when the budget or the space is used up."""
        while self._first and not self.exhausted:
            proposal = self._try_first(self._first.pop(0))
            if proposal is not None:
                return proposal
        sampling = self._sampling
        size = sampling.size
        for repeats in range(REPEATS if size is None else size):
            if self.exhausted:
                return None
            if size is not None and self._number >= size:
                break
            settings, attrs = sampling.propose(self._number, self._known(), repeats >= STUCK)
            self._number += 1
            planned = self._new(settings)
            if planned is not None:
                return self._launch(planned, True, self._number - 1, attrs)
        return self._untried()

    def _untried(self) -> Proposal | None:
        """A point of a small space that no proposal came to; None, for good, where all were."""
        finite = not self.cell.conditions and all(
            space.count(distribution) for distribution in self.cell.space.values()
        )
        if finite and self._sampling.size is None and space.grid_size(self.cell.space) <= SMALL:
            for at in range(space.grid_size(self.cell.space)):
                planned = self._new(points.grid_point(self.cell.space, at))
                if planned is not None:
                    attrs = self._sampling.place(self._number, self._known())
                    self._number += 1
                    return self._launch(planned, True, self._number - 1, attrs)
        self._explored = True
        return None

    def tell(self, trial: str, curve: Curve, outcome: Outcome) -> None:
        """Takes the end of a search trial and its metrics by tasks seen.

        A completed trial competes for the win if every objective is a number after its last task,
        else it counts as failed. A pruned one is known to the sampler by where it stood; with
        several objectives it is left out. Settings that are infeasible (out of device memory) are
        avoided by samplers that learn; those that failed are left out. None, as a ledger has it, is
        no number.
        """
        self._launched[trial].end(curve, outcome, tuple(self._spec.objective))

    def recall(self, trial: PlannedTrial, sampler: Mapping[str, Any]) -> None:
        """Takes a proposal of an earlier session, as if `ask` had just returned it.

        Proposals are recalled in the order in which they were made; when the ends of trials are
        told in between does not matter. One that is no point of the space any more (a study that
        was changed) is left out of what the sampler learns.
        """
        # A grid may have got more points since: it is gone through from its beginning.
        if sampler and self._sampling.size is None:
            self._number = sampler["number"] + (1 if sampler["asked"] else 0)
        if trial.id not in self._launched:
            fits = self.cell.misfit(trial.searched) is None
            self._launched[trial.id] = Launched(trial, dict(sampler.get("attrs", {})), fits)

    def close(self) -> None:
        """Ends the search: no further proposals."""
        self._closed = True

    @property
    def _sampling(self) -> Sampling:
        return Sampling(
            kind=self._spec.sampler,
            space=self.cell.space,
            conditions=self.cell.conditions,
            signs=self._spec.signs,
            trials=self._spec.trials,
            name=f"{self.cell.id}\n{self.cell.search_seed}",
        )

    def _launch(
        self, planned: PlannedTrial, asked: bool, number: int, attrs: dict[str, Any]
    ) -> Proposal:
        self._launched[planned.id] = Launched(planned, attrs)
        return Proposal(planned, {"asked": asked, "number": number, "attrs": attrs})

    def _try_first(self, given: Mapping[str, Any]) -> Proposal | None:
        """Proposes settings from elsewhere; None, with a reason, where they cannot be tried."""
        settings = {key: self._as_drawn(key, given[key]) for key in self.cell.space if key in given}
        reason = self.cell.misfit({**given, **settings})
        if reason is None:
            planned = self._valid(settings)
            if planned is not None and planned.id in self._launched:
                return None
            if planned is not None:
                attrs = self._sampling.place(self._number, self._known())
                return self._launch(planned, False, self._number, attrs)
            reason = str(self.refusal)
        self.passed_over.append(f"{dict(given)}: {reason}")
        return None

    def _as_drawn(self, key: str, value: Any) -> Any:
        """A value of the type that a sampler would give."""
        real = isinstance(self.cell.space[key], FloatDistribution)
        return float(value) if real and type(value) is int else value

    def _known(self) -> list[Known]:
        """What the sampler may learn from: the trials in the order they were proposed."""
        every = (launched.known() for launched in self._launched.values())
        return [known for known in every if known is not None]

    def _new(self, searched: Mapping[str, Any]) -> PlannedTrial | None:
        """As `_valid`; None for a trial that was handed out already, too."""
        planned = self._valid(searched)
        return None if planned is None or planned.id in self._launched else planned

    def _valid(self, searched: Mapping[str, Any]) -> PlannedTrial | None:
        """The search trial with these settings; None where they do not fit together."""
        try:
            return self.cell.trial("search", searched, self.cell.search_seed)
        except ValueError as error:
            self.refusal = str(error)
            return None


def front(points: Sequence[Sequence[float]], signs: Sequence[int]) -> list[int]:
    """Returns the indices of the points that no other one dominates.

    Of equal points the first is kept. The best in the first objective comes first; ties are
    broken by the next objectives. A point has a number for each objective; signs are 1 where more
    is better, −1 where less is.
    """
    gains = [tuple(s * value for s, value in zip(signs, point, strict=True)) for point in points]
    # What dominates a point is better in the first objective where they differ: it comes before.
    order = sorted(range(len(gains)), key=lambda at: tuple(-gain for gain in gains[at]))
    kept: list[int] = []
    for at in order:
        pairs = (zip(gains[other], gains[at], strict=True) for other in kept)
        if not any(all(gain >= own for gain, own in pair) for pair in pairs):
            kept.append(at)
    return kept
