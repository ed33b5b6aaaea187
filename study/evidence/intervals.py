"""What numbers say: intervals over seeds, paired differences, Welch's test, Holm's correction."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from scipy import stats

LEVEL = 0.95
ROUNDING = 1e-12
"""What is smaller than this share of the values that were subtracted is their rounding: 0."""


@dataclass(frozen=True)
class Interval:
    """Mean of `n` values, standard deviation (n − 1), and the t-interval [low, high] of the mean.

    What too few values cannot give is NaN: everything at n = 0, all but the mean at n = 1.
    """

    mean: float
    std: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the interval's width: what stands behind ±."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same seeds, as a description: `difference` is `first` minus `second`.

    Its interval is its own: over many comparisons some leave 0 out by chance.
    """

    group: str
    first: str
    second: str
    seeds: tuple[int, ...]
    difference: Interval

    @property
    def identical(self) -> bool:
        """Whether both came out the same on every seed."""
        return self.difference.mean == 0 == self.difference.std


def interval(values: Sequence[float]) -> Interval:
    """The mean's 95 % t-interval."""
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, math.nan, math.nan, math.nan, 1)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = quantile(n - 1) * std / math.sqrt(n)
    return Interval(mean, std, mean - half, mean + half, n)


def paired(differences: Sequence[float], scale: float = 1.0) -> tuple[Interval, float]:
    """The mean difference with its 95 % t-interval, and the two-sided p that it is 0.

    Differences that are all 0 but for rounding are exactly 0 in the result, with p 1. Where they
    are the same on all seeds and not 0, nothing says how much another seed would differ: no spread
    was seen, which few seeds and accuracies in steps of one image give by chance. Then the ends of
    the interval and p are NaN, as they are with fewer than two differences.

    Args:
        differences: one for each seed.
        scale: the largest size of the values that were subtracted, 1 for shares.
    """
    change, least = interval(differences), ROUNDING * scale
    if change.n < 2:
        return change, math.nan
    if change.std > least:
        t = change.mean / (change.std / math.sqrt(change.n))
        return change, 2 * float(stats.t.sf(abs(t), change.n - 1))
    if abs(change.mean) <= least:
        return Interval(0.0, 0.0, 0.0, 0.0, change.n), 1.0
    return Interval(change.mean, 0.0, math.nan, math.nan, change.n), math.nan


def size(*samples: Iterable[float]) -> float:
    """The largest size among all values: the `scale` of their differences."""
    return max((abs(value) for sample in samples for value in sample), default=0.0)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values, in their order; NaN stays and does not count."""
    order = sorted((p, index) for index, p in enumerate(values) if not math.isnan(p))
    corrected = [math.nan] * len(values)
    least = 0.0
    for rank, (p, index) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        corrected[index] = least
    return corrected


def compare(
    groups: Mapping[str, Mapping[str, Mapping[int, float]]],
    references: frozenset[str] = frozenset(),
    related: Callable[[str, str], bool] = lambda first, second: True,
) -> list[Comparison]:
    """All pairs of methods of a group on their common seeds, not two `references`.

    Args:
        groups: group → method → seed → value.
        references: methods that only others are compared with.
        related: which two methods are to be compared at all.
    """
    pairs = [
        (group, first, second)
        for group, methods in groups.items()
        for place, first in enumerate(methods)
        for second in list(methods)[place + 1 :]
        if not {first, second} <= references and related(first, second)
    ]
    comparisons = []
    for group, first, second in pairs:
        ours, theirs = groups[group][first], groups[group][second]
        seeds = tuple(sorted(set(ours) & set(theirs)))
        scale = size(ours.values(), theirs.values())
        difference, _ = paired([ours[seed] - theirs[seed] for seed in seeds], scale)
        comparisons.append(Comparison(group, first, second, seeds, difference))
    return comparisons


@cache
def quantile(freedom: int) -> float:
    """Student's t for a two-sided interval; scipy takes a tenth of a millisecond for it."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


LEAST_SEEDS = 3
"""Fewer repetitions than this give intervals too wide to say anything."""


@dataclass(frozen=True)
class NotEnough:
    """Not enough evidence: `reason` says what is missing, as words that follow a colon."""

    reason: str


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 seed, 3 seeds."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[Interval, float]:
    """The difference `first` − `second` of two means, with its 95 % interval and two-sided p.

    `n` of the interval counts the values of both; its standard deviation is NaN, as are interval
    and p where one of them has fewer than two values, or where neither varies and the means differ
    (see `paired`).
    """
    ours, theirs = interval(first), interval(second)
    mean, n = ours.mean - theirs.mean, ours.n + theirs.n
    if min(ours.n, theirs.n) < 2:
        return Interval(mean, math.nan, math.nan, math.nan, n), math.nan
    least = ROUNDING * size(first, second)
    if max(ours.std, theirs.std) <= least:
        if abs(mean) <= least:
            return Interval(0.0, math.nan, 0.0, 0.0, n), 1.0
        return Interval(mean, math.nan, math.nan, math.nan, n), math.nan
    test = stats.ttest_ind(first, second, equal_var=False)
    ends = test.confidence_interval(LEVEL)
    return Interval(mean, math.nan, float(ends.low), float(ends.high), n), float(test.pvalue)
