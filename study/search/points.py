"""Points of a space that need no results: every point of a grid, and a Sobol sequence."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from study.planning.space import Space, count


def grid_point(space: Space, index: int) -> dict[str, Any]:
    """The point number `index` of the grid, in [0, grid_size): the last key changes fastest."""
    found = {}
    for key, distribution in reversed(list(space.items())):
        index, at = divmod(index, count(distribution) or 1)
        found[key] = _value(distribution, at)
    return {key: found[key] for key in space}


def sobol_point(space: Space, seed: int, index: int) -> dict[str, Any]:
    """The point number `index` of the scrambled Sobol sequence that `seed` stands for."""
    # Half a second of imports that most studies can do without.
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(space), scramble=True, rng=seed)
    if index:
        sequence.fast_forward(index)
    shares: Sequence[float] = sequence.random(1)[0].tolist()
    return {key: _at_share(space[key], share) for key, share in zip(space, shares, strict=True)}


def _at_share(distribution: BaseDistribution, share: float) -> Any:
    """The value below which `share`, in [0, 1), of the distribution lies."""
    number = count(distribution)
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    if not distribution.log:
        return (
            low + share * (high - low)
            if number is None
            else _value(distribution, int(share * number))
        )
    # Each whole number stands for what rounds to it, so that the ends get their share.
    around = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    bottom, top = math.log(low - around), math.log(high + around)
    value = math.exp(bottom + share * (top - bottom))
    inside = min(max(value, low), high)
    return round(inside) if isinstance(distribution, IntDistribution) else inside


def _value(distribution: BaseDistribution, at: int) -> Any:
    """The value number `at` of a distribution with a step."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[at]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if isinstance(distribution, IntDistribution):
        return distribution.low + at * distribution.step
    # In decimals: 0.1 + 2 × 0.1 is 0.3 for the person who wrote it.
    return float(Decimal(str(distribution.low)) + at * Decimal(str(distribution.step)))
