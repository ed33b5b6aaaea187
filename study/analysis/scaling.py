"""What the numbers say: intervals over seeds, paired comparisons, curves over tasks."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from scipy import stats

from study.analysis.entities import TrialRecord

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
    """Two methods on the same seeds: `difference` is `first` minus `second`.

    `p` is that of the paired t-test, `p_holm` the same after Holm's correction over all
    comparisons of the study; NaN where `paired` can test nothing.
    """

    group: str
    first: str
    second: str
    seeds: tuple[int, ...]
    difference: Interval
    p: float
    p_holm: float

    @property
    def identical(self) -> bool:
        """Whether both came out the same on every seed."""
        return self.difference.mean == 0 == self.difference.std

    @property
    def interval_decides(self) -> bool:
        """Whether the interval of the difference leaves 0 out."""
        return self.difference.low > 0 or self.difference.high < 0

    @property
    def enough_evidence(self) -> bool:
        """Whether the difference holds: by its own interval and by the corrected p."""
        return self.interval_decides and self.p_holm <= 1 - LEVEL


@dataclass(frozen=True)
class Exhaustion:
    """The first task after which a layer had fewer free dimensions than asked for."""

    layer: str
    task: int
    seed: int


def interval(values: Sequence[float]) -> Interval:
    """The mean's 95 % t-interval."""
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, math.nan, math.nan, math.nan, 1)
    std = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (n - 1))
    half = quantile(n - 1) * std / math.sqrt(n)
    return Interval(mean, std, mean - half, mean + half, n)


def final_by_seed(trials: Sequence[TrialRecord], metric: str) -> dict[int, float]:
    """The metric after the last task of every completed trial that has it, by seed."""
    finals = {one.seed: one.final(metric) for one in trials if one.status == "completed"}
    return {seed: value for seed, value in finals.items() if value is not None}


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
    found, least = interval(differences), ROUNDING * scale
    if found.n < 2:
        return found, math.nan
    if found.std > least:
        t = found.mean / (found.std / math.sqrt(found.n))
        return found, 2 * float(stats.t.sf(abs(t), found.n - 1))
    if abs(found.mean) <= least:
        return Interval(0.0, 0.0, 0.0, 0.0, found.n), 1.0
    return Interval(found.mean, 0.0, math.nan, math.nan, found.n), math.nan


def size(*values: Iterable[float]) -> float:
    """The largest size among all values: the `scale` of their differences."""
    return max((abs(one) for some in values for one in some), default=0.0)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values, in their order; NaN stays and does not count."""
    order = sorted((p, index) for index, p in enumerate(values) if not math.isnan(p))
    corrected = [math.nan] * len(values)
    least = 0.0
    for rank, (p, index) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        corrected[index] = least
    return corrected


def _any_two(first: str, second: str) -> bool:
    return True


def compare(
    groups: Mapping[str, Mapping[str, Mapping[int, float]]],
    references: frozenset[str] = frozenset(),
    related: Callable[[str, str], bool] = _any_two,
) -> list[Comparison]:
    """Compares all pairs of methods of a group on their common seeds, not two `references`.

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
    found = []
    for group, first, second in pairs:
        one, other = groups[group][first], groups[group][second]
        seeds = tuple(sorted(set(one) & set(other)))
        scale = size(one.values(), other.values())
        difference, p = paired([one[seed] - other[seed] for seed in seeds], scale)
        found.append(Comparison(group, first, second, seeds, difference, p, p))
    corrected = holm([one.p for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def mean_curve(trials: Sequence[TrialRecord], metric: str) -> dict[int, Interval]:
    """The metric by tasks seen, over the trials that have it there."""
    series = [one.series(metric) for one in trials]
    tasks = sorted({task for one in series for task in one})
    return {task: interval([one[task] for one in series if task in one]) for task in tasks}


def mean_matrix(trials: Sequence[TrialRecord]) -> list[list[float]]:
    """acc[t][i] as a mean over the trials, for as many tasks as all of them have; row t has t."""
    if not trials:
        return []
    tables = [[one.accuracy_row for one in trial.tasks] for trial in trials]
    return [
        [math.fsum(values) / len(values) for values in zip(*rows, strict=True)]
        for rows in zip(*tables, strict=False)
    ]


def parts(trials: Sequence[TrialRecord], metric: str) -> tuple[str, ...]:
    """What comes after `metric/` in the trials' metrics: layers, tasks; in order of number."""
    prefix = f"{metric}/"
    names = {name for trial in trials for task in trial.tasks for name in task.metrics}
    found = (name[len(prefix) :] for name in names if name.startswith(prefix))
    # By length first: task_100 comes after task_99.
    return tuple(sorted(found, key=lambda name: (len(name), name)))


def layers(trials: Sequence[TrialRecord], metric: str = "subspace/dim_free") -> tuple[str, ...]:
    """Names of the layers that the trials measured the metric for."""
    return parts(trials, metric)


def by_layer(
    trials: Sequence[TrialRecord], metric: str = "subspace/dim_free"
) -> dict[str, dict[int, float]]:
    """The metric as layer → tasks seen → mean over the trials."""
    return {
        layer: {task: found.mean for task, found in mean_curve(trials, f"{metric}/{layer}").items()}
        for layer in layers(trials, metric)
    }


def free_share(trials: Sequence[TrialRecord]) -> dict[str, dict[int, float]]:
    """Share of a layer's input dimensions that is free, as layer → tasks seen → mean."""
    free, used = by_layer(trials), by_layer(trials, "subspace/dim_used")
    shares: dict[str, dict[int, float]] = {}
    for layer, dims in free.items():
        # Without dim_used the layer's width is not known: the most that was free stands for it.
        most = max(dims.values()) or 1.0
        taken = used.get(layer, {})
        shares[layer] = {
            task: dim / ((dim + taken[task]) or 1.0) if task in taken else dim / most
            for task, dim in dims.items()
        }
    return shares


def first_below(trial: TrialRecord, least: float) -> Exhaustion | None:
    """First task, and at that task first layer, with fewer than `least` free dimensions."""
    names = layers([trial])
    for task in trial.tasks:
        for layer in names:
            free = task.metrics.get(f"subspace/dim_free/{layer}")
            if free is not None and free < least:
                return Exhaustion(layer, task.task, trial.seed)
    return None


def first_exhausted(trials: Sequence[TrialRecord]) -> list[Exhaustion]:
    """Per trial, the first layer and task that ran short of free dimensions.

    The trial's own word counts (subspace/exhausted_layers/layer_XX), since the rank may change
    with the task and a memory may have been relaxed; without one, fewer than `method.rank`.
    """
    found = []
    for one in trials:
        flagged = layers([one], "subspace/exhausted_layers")
        if not flagged:
            found.append(first_below(one, float(one.params.get("method.rank") or 0)))
            continue
        places = (
            Exhaustion(layer, task.task, one.seed)
            for task in one.tasks
            for layer in flagged
            if task.metrics.get(f"subspace/exhausted_layers/{layer}", 0) > 0
        )
        found.append(next(places, None))
    return [one for one in found if one is not None]


def first_empty(trials: Sequence[TrialRecord]) -> list[Exhaustion]:
    """Per trial, the first layer and task with no free dimension at all."""
    found = (first_below(one, 0.5) for one in trials)
    return [one for one in found if one is not None]


@cache
def quantile(freedom: int) -> float:
    """Student's t for a two-sided interval; scipy takes a tenth of a millisecond for it."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))
