"""The search in one cell: asks a sampler for settings, tells it results, and names the winner."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import FloatDistribution

from study import points
from study.conditions import misfit
from study.fronts import front
from study.planning import Cell, PlannedTrial
from study.proposals import Curve, Launched, Outcome, Proposal, Winner
from study.samplers import Known, Sampling
from study.spec import StudySpec

# Proposals in a row that the cell has tried already or that are invalid, before its space counts
# as explored; from `STUCK` in a row, proposals are random.
REPEATS = 20
# Points of a space that are gone through one by one once a sampler finds nothing new.
SMALL = 4096
STUCK = 10


class CellSearch:
    """Search trials of one cell, in memory; nothing here knows of Ray.

    What is proposed depends on the number of the proposal and the results so far only; see
    `study.samplers`. `refusal` tells why the latest invalid proposal was one, `passed_over` which
    of the settings to try first were not tried.

    Args:
        cell: where to search.
        spec: sampler, objectives and number of trials.
        first: settings to try before the sampler is asked. Those that were tried, that are no
            point of the space or do not fit together are left out, as are all with the sampler
            grid, which tries every point.
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
        return self.exhausted and all(one.outcome for one in self._launched.values())

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
        done = [one for one in self._launched.values() if one.outcome == "completed"]
        best = [done[at] for at in front([one.values for one in done], self._spec.signs)]
        named = [dict(zip(self._spec.objective, one.values, strict=True)) for one in best]
        return tuple(
            Winner(one.trial, one.values[0], values)
            for one, values in zip(best, named, strict=True)
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
            number = self._number
            settings, attrs = sampling.propose(number, self._known(), repeats >= STUCK)
            self._number += 1
            planned = self._valid(settings)
            if planned is not None and planned.id not in self._launched:
                return self._launch(planned, {"asked": True, "number": number, "attrs": attrs})
        return self._untried()

    def _untried(self) -> Proposal | None:
        """A point of a small space that no proposal came to; None, for good, where all were."""
        finite = not self.cell.conditions and all(
            points.count(one) for one in self.cell.space.values()
        )
        if finite and self._sampling.size is None and points.grid_size(self.cell.space) <= SMALL:
            for at in range(points.grid_size(self.cell.space)):
                planned = self._valid(points.grid_point(self.cell.space, at))
                if planned is not None and planned.id not in self._launched:
                    attrs = self._sampling.place(self._number, self._known())
                    noted = {"asked": True, "number": self._number, "attrs": attrs}
                    self._number += 1
                    return self._launch(planned, noted)
        self._explored = True
        return None

    def tell(self, trial: str, curve: Curve, outcome: Outcome) -> None:
        """Takes the end of a search trial and its metrics by tasks seen.

        A completed trial competes for the win if every objective is a number after its last task,
        else it counts as failed. A pruned one is known to the sampler by where it stood; with
        several objectives it is left out. Settings that are infeasible (out of device memory) are
        avoided by samplers that learn; those that failed are left out.

        Args:
            trial: its id.
            curve: metrics by tasks seen; None, as a ledger has it, is no number.
            outcome: how it ended.
        """
        self._launched[trial].end(curve, outcome, tuple(self._spec.objective))

    def recall(self, trial: PlannedTrial, sampler: Mapping[str, Any]) -> None:
        """Takes a proposal of an earlier session, as if `ask` had just returned it.

        Proposals are recalled in the order in which they were made; when the ends of trials are
        told in between does not matter. One that is no point of the space any more (a study that
        was changed) is left out of what the sampler learns.
        """
        # A grid may have got more points since: it is gone through from its beginning.
        if self._sampling.size is None:
            self._number = sampler["number"] + (1 if sampler["asked"] else 0)
        if trial.id not in self._launched:
            fits = misfit(trial.searched, self.cell.space, self.cell.conditions) is None
            self._launched[trial.id] = Launched(trial, dict(sampler["attrs"]), fits)

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

    def _launch(self, planned: PlannedTrial, sampler: dict[str, Any]) -> Proposal:
        self._launched[planned.id] = Launched(planned, sampler["attrs"])
        return Proposal(planned, sampler)

    def _try_first(self, given: Mapping[str, Any]) -> Proposal | None:
        """Proposes settings from elsewhere; None, with a reason, where they cannot be tried."""
        settings = {key: self._as_drawn(key, given[key]) for key in self.cell.space if key in given}
        reason = misfit({**given, **settings}, self.cell.space, self.cell.conditions)
        if reason is None:
            planned = self._valid(settings)
            if planned is not None and planned.id in self._launched:
                return None
            if planned is not None:
                attrs = self._sampling.place(self._number, self._known())
                noted = {"asked": False, "number": self._number, "attrs": attrs}
                return self._launch(planned, noted)
            reason = str(self.refusal)
        self.passed_over.append(f"{dict(given)}: {reason}")
        return None

    def _as_drawn(self, key: str, value: Any) -> Any:
        """A value of the type that a sampler would give."""
        real = isinstance(self.cell.space[key], FloatDistribution)
        return float(value) if real and type(value) is int else value

    def _known(self) -> list[Known]:
        """What the sampler may learn from: the trials in the order they were proposed."""
        every = (one.known() for one in self._launched.values())
        return [one for one in every if one is not None]

    def _valid(self, searched: Mapping[str, Any]) -> PlannedTrial | None:
        """The search trial with these settings; None where they do not fit together."""
        try:
            return self.cell.trial("search", searched, self.cell.search_seed)
        except ValueError as error:
            self.refusal = str(error)
            return None
