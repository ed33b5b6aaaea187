"""What doubling the rank does to a metric, at each number of tasks."""

import math
from dataclasses import dataclass, replace

import numpy as np

from study.analysis import scaling
from study.analysis.rank_tables import RankTable
from study.analysis.scaling import LEVEL, Interval


@dataclass(frozen=True)
class RankEffect:
    """The metric by rank at one number of tasks.

    `slope` is the change of the metric for each doubling of the rank, a straight line through each
    seed's own values, with its 95 % interval over the seeds that have all ranks; `p` is that of a
    t-test that it is 0, `p_holm` after Holm's correction over the numbers of tasks. `best` is the
    rank with the best mean over these seeds, of equal ones the smallest.
    """

    tasks: int
    by_rank: tuple[tuple[int, Interval], ...]
    slope: Interval
    p: float
    p_holm: float
    best: int | None

    @property
    def enough_evidence(self) -> bool:
        """Whether more rank is better or worse for certain: by its own interval and by p."""
        return (self.slope.low > 0 or self.slope.high < 0) and self.p_holm <= 1 - LEVEL


def rank_sensitivity(table: RankTable) -> list[RankEffect]:
    """One effect for each number of tasks; without common seeds its slope is NaN."""
    found = [_effect(table, tasks) for tasks in table.tasks]
    corrected = scaling.holm([one.p for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def doublings(ranks: tuple[int, ...]) -> list[float]:
    """Weights (ranks,) whose sum with a seed's values is its slope per doubling of the rank."""
    steps = np.log2(ranks) - np.mean(np.log2(ranks))
    return list((steps / (steps @ steps)).tolist())


def _effect(table: RankTable, tasks: int) -> RankEffect:
    own = {rank: table.values[rank][tasks] for rank in table.ranks if tasks in table.values[rank]}
    seeds = sorted(set.intersection(*(set(one) for one in own.values())))
    slopes, best = [], None
    if len(own) > 1:
        weights = doublings(tuple(own))
        slopes = [
            math.fsum(weight * one[seed] for weight, one in zip(weights, own.values(), strict=True))
            for seed in seeds
        ]
    if seeds:
        sign = 1 if table.higher_is_better else -1
        best = max(own, key=lambda rank: (sign * math.fsum(own[rank][at] for at in seeds), -rank))
    scale = scaling.size(*(one.values() for one in own.values()))
    slope, p = scaling.paired(slopes, scale)
    by_rank = tuple((rank, scaling.interval(list(one.values()))) for rank, one in own.items())
    return RankEffect(tasks, by_rank, slope, p, p, best)
