"""What a sampler proposes next, from a number and the results so far alone.

Nothing is kept between two proposals: a sampler of its own, seeded by the number of the proposal,
is asked each time, and told of all earlier trials in the order of their proposal. So a search that
was stopped goes on as one that was not. A proposal costs some 45 µs for each earlier trial beside
what the sampler needs itself.

What Optuna's samplers learn from: TPE from completed, pruned and running trials; GP from completed
and running ones; NSGA-II from completed ones. All three avoid settings near those that did not fit
into device memory. Random, grid and QMC learn nothing.
"""

import hashlib
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.planning import space as space_
from study.search import points

State: TypeAlias = Literal["running", "completed", "pruned", "infeasible"]
STATES: Mapping[State, TrialState] = {
    "running": TrialState.RUNNING,
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "infeasible": TrialState.COMPLETE,
}
LEARNING = ("tpe", "multivariate_tpe", "gp", "nsga2")
# NSGA-II's generation of a trial, which is decided when it is proposed.
GENERATION = ":generation"

# Its warnings are for who writes a sampler's call, and would break the table on the terminal.
optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Known:
    """An earlier trial, as a sampler learns of it.

    Attributes:
        settings: its point of the space.
        attrs: what the sampler noted when it proposed the trial; JSON.
        state: "infeasible" is a trial that did not fit into device memory.
        values: every objective of a completed trial.
        stood: tasks seen and objective of a pruned trial; only for a single objective.
    """

    settings: Mapping[str, Any]
    attrs: Mapping[str, Any]
    state: State
    values: tuple[float, ...] = ()
    stood: tuple[int, float] | None = None


@dataclass(frozen=True)
class Sampling:
    """The sampler of one cell.

    Attributes:
        kind: one of spec.SAMPLERS.
        space: what is searched: key → distribution; a key comes after those it depends on.
        conditions: of the keys that are not in every setting.
        signs: for each objective 1 where more is better, −1 where less is.
        trials: how many there will be; TPE and GP begin with min(10, max(2, trials // 3)) random
            ones (with Optuna's 10 most searches would be random alone), NSGA-II has a population
            of max(4, trials // 4).
        name: seeds are derived from it.
    """

    kind: str
    space: Mapping[str, BaseDistribution]
    conditions: space_.Conditions
    signs: tuple[int, ...]
    trials: int
    name: str

    @property
    def size(self) -> int | None:
        """The number of proposals there are; None where a sampler always has another one."""
        return space_.grid_size(self.space) if self.kind == "grid" else None

    def propose(
        self, number: int, known: Sequence[Known], stuck: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the settings of the proposal `number` (from 0, below `size`), and its attrs.

        A sampler that learns and is `stuck`, since it proposed what was tried already several
        times, proposes at random: on a few choices TPE may stay with the best for ever.
        """
        if stuck and self.kind in LEARNING:
            settings, _ = replace(self, kind="random").propose(number, ())
            return settings, self.place(number, known)
        if self.kind == "grid":
            # In a random order: a search that a budget ends has been everywhere.
            order = list(range(space_.grid_size(self.space)))
            random.Random(self._seed("grid")).shuffle(order)
            return points.grid_point(self.space, order[number]), {}
        if self.kind == "qmc":
            return points.sobol_point(self.space, self._seed("qmc"), number), {}
        return self._ask(number, known)

    def place(self, number: int, known: Sequence[Known]) -> dict[str, Any]:
        """Returns the attrs of settings that come from elsewhere, tried before `number`."""
        return self._ask(number, known)[1] if self.kind == "nsga2" else {}

    def _ask(self, number: int, known: Sequence[Known]) -> tuple[dict[str, Any], dict[str, Any]]:
        study = optuna.create_study(
            directions=["maximize" if sign > 0 else "minimize" for sign in self.signs],
            sampler=self._sampler(self._seed(number)),
        )
        if self.kind in LEARNING:
            study.add_trials(self._trials(known))
        found: dict[str, Any] = {}
        # GP divides 0 by 0 where nothing fits into memory, and goes on.
        with np.errstate(invalid="ignore"):
            trial = study.ask()
            for key, distribution in self.space.items():
                if space_.applies(key, found, self.conditions):
                    found[key] = _suggest(trial, key, distribution)
        attrs = study.get_trials(deepcopy=False)[-1].system_attrs
        return found, {key: value for key, value in attrs.items() if key.endswith(GENERATION)}

    def _sampler(self, seed: int) -> BaseSampler:
        startup = min(10, max(2, self.trials // 3))
        if self.kind == "tpe":
            return TPESampler(seed=seed, n_startup_trials=startup, multivariate=False)
        if self.kind == "multivariate_tpe":
            with warnings.catch_warnings():
                # `group` is what makes it fit for conditional keys.
                warnings.simplefilter("ignore", ExperimentalWarning)
                return TPESampler(
                    seed=seed, n_startup_trials=startup, multivariate=True, group=True
                )
        if self.kind == "gp":
            return GPSampler(seed=seed, n_startup_trials=startup)
        if self.kind == "nsga2":
            return NSGAIISampler(seed=seed, population_size=max(4, self.trials // 4))
        return RandomSampler(seed=seed)

    def _trials(self, known: Sequence[Known]) -> list[FrozenTrial]:
        """The earlier trials as Optuna has them.

        Samplers learn what is infeasible from trials with values: it gets the worst so far. Where
        nothing is infeasible, no constraint is set, so that GP has nothing more to fit.
        """
        constrained = any(trial.state == "infeasible" for trial in known)
        worst = self._worst(known)
        found = []
        for trial in known:
            state = STATES[trial.state]
            over = {"device_memory": 1.0 if trial.state == "infeasible" else -1.0}
            values = worst if trial.state == "infeasible" else trial.values
            found.append(
                create_trial(
                    state=state,
                    values=values if state == TrialState.COMPLETE else None,
                    params=dict(trial.settings),
                    distributions={key: self.space[key] for key in trial.settings},
                    system_attrs=dict(trial.attrs),
                    intermediate_values=dict([trial.stood]) if trial.stood else {},
                    constraints=over if constrained and state.is_finished() else None,
                )
            )
        return found

    def _worst(self, known: Sequence[Known]) -> tuple[float, ...]:
        """The worst value of each objective among the completed trials; 0 where there is none."""
        done = [trial.values for trial in known if trial.state == "completed"]
        return tuple(
            sign * min((sign * values[at] for values in done), default=0.0)
            for at, sign in enumerate(self.signs)
        )

    def _seed(self, part: int | str) -> int:
        text = f"{self.name}\n{part}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _suggest(trial: optuna.Trial, key: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    suggest: Callable[..., float] = trial.suggest_float
    if isinstance(distribution, IntDistribution):
        suggest = trial.suggest_int
    low, high, step = distribution.low, distribution.high, distribution.step
    return suggest(key, low, high, step=step, log=distribution.log)
