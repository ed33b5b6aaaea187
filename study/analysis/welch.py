"""Welch's t-test: two means over different seeds, of spreads that may differ."""

import math
from collections.abc import Sequence

from scipy import stats

from study.analysis.scaling import LEVEL, ROUNDING, Interval, interval, size


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[Interval, float]:
    """The difference `first` − `second` of two means, with its 95 % interval and two-sided p.

    `n` of the interval counts the values of both; its standard deviation is NaN, as are interval
    and p where one of them has fewer than two values, or where neither varies and the means differ
    (see `scaling.paired`).
    """
    one, other = interval(first), interval(second)
    mean, n = one.mean - other.mean, one.n + other.n
    if min(one.n, other.n) < 2:
        return Interval(mean, math.nan, math.nan, math.nan, n), math.nan
    shares = (one.std**2 / one.n, other.std**2 / other.n)
    error = math.sqrt(sum(shares))
    least = ROUNDING * size(first, second)
    if error <= least:
        if abs(mean) <= least:
            return Interval(0.0, math.nan, 0.0, 0.0, n), 1.0
        return Interval(mean, math.nan, math.nan, math.nan, n), math.nan
    # Welch and Satterthwaite's degrees of freedom.
    freedom = sum(shares) ** 2 / (shares[0] ** 2 / (one.n - 1) + shares[1] ** 2 / (other.n - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Interval(mean, math.nan, mean - half, mean + half, n), p
