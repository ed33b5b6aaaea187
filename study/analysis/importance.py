"""How much each searched key decided whether a search trial was among the best of its cell.

PED-ANOVA (Watanabe et al., IJCAI 2023, arXiv:2304.10255) in Optuna's implementation: how far the
density of a key's values in the best trials is from that in all trials. It asks nothing of the
others but that they are not among the best, so trials that a pruner or divergence ended count.
Permuted results say what a share comes to by chance; a search that learned while it ran tried more
values where results were good, so that this is a guide and no test.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from study.analysis.trend_models import Array
from study.evidence import NotEnough, count, intervals
from study.ledger import StudyRecords, TrialRecord

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LEAST_TRIALS, LEAST_BEST = 20, 5
BEST_SHARE = 0.1
# Permutations for each of two keys or more.
PERMUTATIONS = 25


@dataclass(frozen=True)
class KeyImportance:
    """A searched key: `share` is its part of the importance of all keys.

    `chance` is the share that a key without effect stays below in 95 of 100.
    """

    key: str
    share: float
    chance: float


@dataclass(frozen=True)
class Importance:
    """A cell's keys by importance for being among the `best` of `trials`, the first most."""

    cell: str
    objective: str
    trials: int
    best: int
    keys: tuple[KeyImportance, ...]


def importance(study: StudyRecords, cell: str) -> Importance | NotEnough:
    """Of the cell's own search trials, by the study's first objective.

    Trials that completed count by their value, those that were pruned or diverged as worse than
    all of them; other failures and trials that still run are left out. Permutations are drawn with
    a fixed seed.
    """
    trials = [trial for trial in study.searches(cell) if trial.searched]
    if not study.study.objectives or not trials:
        return NotEnough("the cell has no search trials of its own with anything to search")
    objective, sign = study.study.objectives[0], study.study.signs[0]
    losses = _losses(trials, objective, sign)
    known = [trial for trial, loss in zip(trials, losses, strict=True) if not math.isnan(loss)]
    values = losses[~np.isnan(losses)]
    best = max(LEAST_BEST, math.ceil(BEST_SHARE * len(known)))
    if len(known) < LEAST_TRIALS:
        return NotEnough(
            f"{count(len(known), 'search trial')} with a result, {LEAST_TRIALS} needed"
        )
    if int(np.isfinite(values).sum()) < best:
        return NotEnough(f"fewer than {best} search trials came to their end")
    # What was ended early is worse than the worst, which is all that PED-ANOVA asks.
    values = np.where(np.isfinite(values), values, np.nanmax(values[np.isfinite(values)]) + 1.0)
    searched = next((record.search for record in study.cells if record.cell == cell), {})
    tried: dict[str, set[str]] = {}
    for trial in known:
        for key, value in trial.searched.items():
            tried.setdefault(key, set()).add(str(value))
    keys = [key for key, seen in tried.items() if len(seen) > 1]
    if not keys:
        return NotEnough("no searched key took more than one value")
    settings = [
        {key: trial.searched[key] for key in keys if key in trial.searched} for trial in known
    ]
    try:
        measure = _ped_anova(settings, keys, searched, best / len(known))
    except ImportError:
        return NotEnough("Optuna, which measures importance, is not installed here")
    return _judge(measure, values, keys, cell, objective, best)


def _judge(
    measure: Callable[[Array], Array],
    values: Array,
    keys: Sequence[str],
    cell: str,
    objective: str,
    best: int,
) -> Importance | NotEnough:
    raw = measure(values)
    if raw.sum() == 0:
        return NotEnough("the best trials do not differ from the others in any searched key")
    random = np.random.default_rng(0)
    orders = PERMUTATIONS * max(2, len(keys))
    permuted = np.array([measure(random.permutation(values)) for _ in range(orders)])
    chance = np.quantile(permuted, intervals.LEVEL, axis=0) / raw.sum()
    ranked = [
        KeyImportance(
            key=key,
            share=float(raw[at] / raw.sum()),
            chance=min(1.0, float(chance[at])),
        )
        for at, key in enumerate(keys)
    ]
    ranked.sort(key=lambda key: -key.share)
    return Importance(cell, objective, len(values), best, tuple(ranked))


def _losses(trials: Sequence[TrialRecord], objective: str, sign: int) -> Array:
    """Low is good; infinite for trials that were ended for being bad, NaN where not known."""

    def loss(trial: TrialRecord) -> float:
        if trial.status == "pruned" or trial.reason == "diverged":
            return math.inf
        value = trial.final(objective) if trial.status == "completed" else None
        return math.nan if value is None else -sign * value

    return np.array([loss(trial) for trial in trials])


def _ped_anova(
    settings: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    searched: Mapping[str, Mapping[str, Any]],
    share: float,
) -> Callable[[Array], Array]:
    """The importance of each of `keys`, not normalised, as a function of the losses (trials,).

    `searched` is that of a cell's record; `share` of the trials count as the best, those with an
    infinite loss do not count.

    Raises:
        ImportError: without Optuna. A report can be written on a machine that lacks it.
    """
    import optuna

    spaces = {
        key: _distribution(
            searched.get(key, {}), [setting[key] for setting in settings if key in setting]
        )
        for key in keys
    }
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = optuna.create_study()
    optuna.logging.set_verbosity(verbosity)
    for setting in settings:
        own = {key: spaces[key] for key in setting}
        trials.add_trial(
            optuna.trial.create_trial(value=0.0, params=dict(setting), distributions=own)
        )

    def measure(losses: Array) -> Array:
        with warnings.catch_warnings():
            # It warns on every call that a low target is taken as good, which is what is meant.
            warnings.simplefilter("ignore")
            importances = optuna.importance.get_param_importances(
                trials,
                evaluator=evaluator,
                params=list(keys),
                target=lambda trial: float(losses[trial.number]),
                normalize=False,
            )
        return np.array([importances[key] for key in keys])

    return measure


def _distribution(searched: Mapping[str, Any], seen: Sequence[Any]) -> "BaseDistribution":
    """What was searched of a key, and from what was tried.

    Ends are moved so that they hold every value that was tried: those of a ledger of version 1 are
    of six digits, and a range may have changed since.
    """
    from optuna import distributions

    attributes = searched.get("distribution", {}).get("attributes", {})
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in seen)
    if not numbers or "choices" in attributes:
        return distributions.CategoricalDistribution(
            tuple({str(value): value for value in seen}.values())
        )
    known = [attributes[end] for end in ("low", "high") if end in attributes]
    low, high = min(*seen, *known), max(*seen, *known)
    log = bool(attributes.get("log"))
    if all(isinstance(value, int) for value in seen):
        return distributions.IntDistribution(math.floor(low), math.ceil(high), log=log)
    return distributions.FloatDistribution(float(low), float(high), log=log)
