"""What seeds can show before they are paid for: power of the paired t-test."""

import math
from collections.abc import Callable

from scipy import optimize, stats

from study.evidence.boundaries import Design

POWER = 0.8
MOST_SEEDS = 10_000
"""`seeds_for` looks no further."""


def power(difference: float, std: float, pairs: int, critical: float) -> float:
    """How often |t| of `pairs` differences exceeds `critical`, by the noncentral t.

    Cohen 1988, Statistical Power Analysis, ch. 2; the side of `difference` alone counts.
    """
    return float(stats.nct.sf(critical, pairs - 1, difference / std * math.sqrt(pairs)))


def smallest_difference(design: Design, std: float) -> float:
    """The smallest difference shown with 80 % power at the last look; inf with one seed.

    Earlier looks can only add to it, so that the power over all looks is at least this.
    """
    _check(std)
    if design.at_most < 2:
        return math.inf
    if std == 0:
        return 0.0
    pairs, limit = design.at_most, design.critical(design.at_most)
    most = 1.0
    while power(most, 1.0, pairs, limit) < POWER:
        most *= 2
    found = optimize.brentq(lambda size: power(size, 1.0, pairs, limit) - POWER, 0.0, most)
    return std * float(found)


def seeds_for(margin: float, std: float, contrasts: int = 1) -> int | None:
    """How many seeds, all spent, show a difference of `margin` with 80 % power; None beyond 10,000.

    It is the fixed design, one look: the number that seeds until decided are measured against.
    """
    _check(std)
    if not margin > 0:
        raise ValueError(f"margin must be above 0, but got {margin}.")

    def enough(pairs: int) -> bool:
        limit = Design(pairs, pairs, contrasts).critical(pairs)
        return std == 0 or power(margin, std, pairs, limit) >= POWER

    return _fewest(enough)


def seeds_to_decide(mean: float, std: float, margin: float, contrasts: int = 1) -> int | None:
    """How many seeds give a verdict with 80 % power if mean and spread stay as they were measured.

    A side of 0 or equality within the margin, whichever takes fewer; as `seeds_for` in all else.
    """
    _check(std)
    if not margin > 0:
        raise ValueError(f"margin must be above 0, but got {margin}.")
    size = abs(mean)

    def enough(pairs: int) -> bool:
        if std == 0:
            return True
        limit = Design(pairs, pairs, contrasts).critical(pairs)
        side = power(size, std, pairs, limit)
        # Both ends of the interval lie inside: by the noncentral t, as a side of 0 does.
        ends = (power(end, std, pairs, limit) for end in (margin - size, margin + size))
        return max(side, sum(ends) - 1) >= POWER

    return _fewest(enough)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The fewest pairs, of 2 and more, that are enough; None beyond `MOST_SEEDS`."""
    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(std: float) -> None:
    if not 0 <= std < math.inf:
        raise ValueError(f"std must be in [0, inf), but got {std}.")
