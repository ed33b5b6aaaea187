"""The search in one cell: asks Optuna for settings, tells it results, and names the winner."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from study.planning import Cell, PlannedTrial
from study.spec import StudySpec

# Proposals in a row that the cell has tried already or that are invalid, before its space counts
# as explored.
REPEATS = 20

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Winner:
    """The best search trial of a cell, and its objective after the last task.

    `value` is None where there was nothing to search: the trial was not run then.
    """

    trial: PlannedTrial
    value: float | None


class CellSearch:
    """Search trials of one cell, in memory; nothing here knows of Ray.

    Every proposal has a sampler of its own, seeded by its number, so that what is proposed
    depends on the numbers and results so far only and not on how often a sampler was used.
    `refusal` tells why the latest invalid proposal was one.
    """

    def __init__(self, cell: Cell, spec: StudySpec) -> None:
        self.cell = cell
        self._spec = spec
        self._study = optuna.create_study(direction="maximize" if spec.sign > 0 else "minimize")
        self._asked: dict[str, optuna.Trial] = {}
        self._trials: dict[str, PlannedTrial] = {}
        self._running: set[str] = set()
        self._values: dict[str, float] = {}
        self._explored = False
        self.refusal: str | None = None

    @property
    def launched(self) -> int:
        """Number of search trials handed out so far."""
        return len(self._trials)

    @property
    def exhausted(self) -> bool:
        """Whether no further search trial will be handed out."""
        return not self.cell.space or self._explored or self.launched >= self._spec.trials

    @property
    def over(self) -> bool:
        """Whether all search trials have ended."""
        return self.exhausted and not self._running

    @property
    def winner(self) -> Winner | None:
        """The best of the trials that saw all tasks; None where there is none."""
        if not self.cell.space:
            return Winner(self.cell.trial("search", {}, self._spec.seeds[0]), None)
        if not self._values:
            return None
        best = max(self._values, key=lambda trial: self._spec.sign * self._values[trial])
        return Winner(self._trials[best], self._values[best])

    def ask(self) -> PlannedTrial | None:
        """The next search trial; None when the budget or the space is used up."""
        while not self.exhausted:
            for _ in range(REPEATS):
                self._study.sampler = self._sampler(len(self._study.trials))
                asked = self._study.ask(dict(self.cell.space))
                planned = self._valid(asked.params)
                if planned is not None and planned.id not in self._trials:
                    self._asked[planned.id] = asked
                    self._trials[planned.id] = planned
                    self._running.add(planned.id)
                    return planned
                self._study.tell(asked, state=TrialState.FAIL)
            self._explored = True
        return None

    def tell(self, trial: str, curve: Mapping[int, float], failed: bool) -> None:
        """Takes the end of a search trial: the objective by tasks seen.

        A trial that saw all tasks competes for the win; one that was cut short is known to the
        sampler by where it stood.
        """
        planned, asked = self._trials[trial], self._asked.pop(trial)
        self._running.discard(trial)
        finite = {task: value for task, value in curve.items() if math.isfinite(value)}
        for task, value in finite.items():
            asked.report(value, task)
        if not failed and planned.tasks in finite:
            self._values[trial] = finite[planned.tasks]
            self._study.tell(asked, finite[planned.tasks])
        elif not failed and finite and planned.tasks not in curve:
            self._study.tell(asked, state=TrialState.PRUNED)
        else:
            self._study.tell(asked, state=TrialState.FAIL)

    def _valid(self, searched: Mapping[str, Any]) -> PlannedTrial | None:
        """The search trial with these settings; None where they do not fit together."""
        try:
            return self.cell.trial("search", searched, self._spec.seeds[0])
        except ValueError as error:
            self.refusal = str(error)
            return None

    def _sampler(self, number: int) -> BaseSampler:
        text = f"{self.cell.id}\n{self._spec.seeds[0]}\n{number}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        if self._spec.sampler == "random":
            return RandomSampler(seed=seed)
        # Cells are small: with Optuna's 10 random trials most searches would be random alone.
        return TPESampler(seed=seed, n_startup_trials=min(10, max(2, self._spec.trials // 3)))
