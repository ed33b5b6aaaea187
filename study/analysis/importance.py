"""How much each searched key decided whether a search trial was among the best of its cell.

PED-ANOVA (Watanabe et al., IJCAI 2023, arXiv:2304.10255) in Optuna's implementation: how far the
density of a key's values in the best trials is from that in all trials. It asks nothing of the
others but that they are not among the best, so trials that a pruner or divergence ended count.
What is said of a key is tested by permutation; a search that learned while it ran tried more
values where results were good, so that p is a guide and not exact.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.analysis import scaling
from study.analysis.entities import StudyRecords, TrialRecord
from study.analysis.evidence import NotEnough, count
from study.analysis.trend_models import Array

LEAST_TRIALS, LEAST_BEST = 20, 5
BEST_SHARE = 0.1
# Permutations for each key, so that p can be below 5 % after Holm's correction.
PERMUTATIONS = 25
# A key leads clearly if it does in this share of half-samples, and beats chance.
CLEARLY = 0.95


@dataclass(frozen=True)
class KeyImportance:
    """One searched key: `share` is its part of the importance of all keys.

    Over random halves of the trials it was within [low, high] in 95 of 100 and `first` is how often
    it led: how stable it is, not a confidence interval. `chance` is the share that a key without
    effect stays below in 95 of 100; `p` is that of the permutation test, `p_holm` after Holm's
    correction over the keys.
    """

    key: str
    share: float
    low: float
    high: float
    chance: float
    p: float
    p_holm: float
    first: float


@dataclass(frozen=True)
class Importance:
    """A cell's keys by importance for being among the `best` of `trials`.

    `leader` is the key that is clearly first: None where there is not enough evidence for one.
    """

    cell: str
    objective: str
    trials: int
    best: int
    keys: tuple[KeyImportance, ...]
    leader: str | None


def importance(study: StudyRecords, cell: str, draws: int = 50) -> Importance | NotEnough:
    """Of the cell's own search trials, by the study's first objective.

    Trials that completed count by their value, those that were pruned or diverged as worse than
    all of them; other failures and trials that still run are left out.

    Args:
        study: the records.
        cell: name of a cell.
        draws: number of half-samples, with a fixed seed; permutations are as many, and at least
            25 for each key.
    """
    trials = [one for one in study.searches(cell) if one.searched]
    if not study.study.objectives or not trials:
        return NotEnough("the cell has no search trials of its own with anything to search")
    objective, sign = study.study.objectives[0], study.study.signs[0]
    losses = _losses(trials, objective, sign)
    known = [one for one, loss in zip(trials, losses, strict=True) if not math.isnan(loss)]
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
    texts = next((one.search for one in study.cells if one.cell == cell), {})
    keys = [key for key, seen in _values(known).items() if len({str(one) for one in seen}) > 1]
    if not keys:
        return NotEnough("no searched key took more than one value")
    try:
        # Only here: a report can be written on a machine without Optuna.
        from study.analysis.importance_measure import PedAnova
    except ImportError:
        return NotEnough("Optuna, which measures importance, is not installed here")
    settings = [{key: one.searched[key] for key in keys if key in one.searched} for one in known]
    measure = PedAnova(settings, keys, texts, best / len(known))
    return _judge(measure, values, keys, draws, cell, objective, best)


def _judge(
    measure: Callable[[Array], Array],
    values: Array,
    keys: Sequence[str],
    draws: int,
    cell: str,
    objective: str,
    best: int,
) -> Importance | NotEnough:
    raw = measure(values)
    if raw.sum() == 0:
        return NotEnough("the best trials do not differ from the others in any searched key")
    random = np.random.default_rng(0)
    orders = max(draws, PERMUTATIONS * len(keys))
    permuted = np.array([measure(random.permutation(values)) for _ in range(orders)])
    halves = np.array([_shares(measure(_half(values, random))) for _ in range(draws)])
    p = (1 + (permuted >= raw).sum(axis=0)) / (orders + 1)
    corrected = scaling.holm(p.tolist())
    low, high = np.quantile(halves, [0.025, 0.975], axis=0)
    first = (halves.argmax(axis=1)[:, None] == np.arange(len(keys))).mean(axis=0)
    chance = np.quantile(permuted, scaling.LEVEL, axis=0) / raw.sum()
    found = [
        KeyImportance(
            key=key,
            share=float(raw[at] / raw.sum()),
            low=float(low[at]),
            high=float(high[at]),
            chance=min(1.0, float(chance[at])),
            p=float(p[at]),
            p_holm=corrected[at],
            first=float(first[at]),
        )
        for at, key in enumerate(keys)
    ]
    found.sort(key=lambda one: -one.share)
    clear = found[0].first >= CLEARLY and found[0].p_holm <= 1 - scaling.LEVEL
    leader = found[0].key if clear else None
    return Importance(cell, objective, len(values), best, tuple(found), leader)


def _losses(trials: Sequence[TrialRecord], objective: str, sign: int) -> Array:
    """Low is good; infinite for trials that were ended for being bad, NaN where not known."""

    def loss(one: TrialRecord) -> float:
        if one.status == "pruned" or one.reason == "diverged":
            return math.inf
        value = one.final(objective) if one.status == "completed" else None
        return math.nan if value is None else -sign * value

    return np.array([loss(one) for one in trials])


def _values(trials: Sequence[TrialRecord]) -> dict[str, list[Any]]:
    """The values that each searched key took."""
    found: dict[str, list[Any]] = {}
    for one in trials:
        for key, value in one.searched.items():
            found.setdefault(key, []).append(value)
    return found


def _half(values: Array, random: np.random.Generator) -> Array:
    """The losses with a random half of them infinite."""
    left = values.copy()
    left[random.permutation(len(values))[: len(values) // 2]] = np.inf
    return left


def _shares(raw: Array) -> Array:
    return raw / raw.sum() if raw.sum() else np.full(len(raw), 1 / len(raw))
