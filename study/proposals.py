"""Search trials as a search hands them out, knows them and names the best of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from study.planning import PlannedTrial
from study.samplers import Known, State

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
            seen = {task: _value(one, objective[0]) for task, one in curve.items()}
            finite = {task: value for task, value in seen.items() if math.isfinite(value)}
            self.stood = max(finite.items(), default=None)

    def known(self) -> Known | None:
        """What a sampler may learn of it; None where that is nothing."""
        state: State = "running"
        if not self.fits or self.outcome == "failed":
            return None
        if self.outcome is not None:
            if self.outcome == "pruned" and self.stood is None:
                return None
            state = self.outcome
        return Known(self.trial.searched, self.attrs, state, self.values, self.stood)


def _value(metrics: Mapping[str, float | None], metric: str) -> float:
    found = metrics.get(metric)
    return math.nan if found is None else found
