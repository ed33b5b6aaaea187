"""Group-sequential boundaries of the paired t-test: one error rate over all looks.

The error rate is spent as Lan and DeMets (1983, Biometrika 70, 659–663) do, by the power family of
Kim and DeMets (1987, Biometrika 74, 149–154). The looks' t statistics are those of normal
differences of unknown spread (Jennison and Turnbull 2000, Group Sequential Methods, ch. 4.4, 9).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

POWER = 2.0
"""Of the spending: the share (n / at_most)² of the error rate may be used by n seeds."""
PATHS = 1_000_000
"""Simulated studies: they leave the error rate α of a contrast uncertain by √(α / PATHS)."""


@dataclass(frozen=True)
class Design:
    """Looks after `first` seeds and after each further one, up to `at_most`.

    `rate` is the error rate of the whole family of `contrasts`, shared out evenly (Bonferroni).
    One seed in all shows nothing.
    """

    first: int
    at_most: int
    contrasts: int = 1
    rate: float = 0.05

    def __post_init__(self) -> None:
        if not 2 <= self.first <= self.at_most and not self.first == self.at_most == 1:
            raise ValueError(
                f"seeds must have 2 <= first <= at_most, or be 1, but got {self.first=}, "
                f"{self.at_most=}."
            )
        if self.contrasts < 1:
            raise ValueError(f"contrasts must be at least 1, but got {self.contrasts}.")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must be in (0, 1), but got {self.rate}.")

    @property
    def alpha(self) -> float:
        """The error rate of each contrast, over all its looks."""
        return self.rate / self.contrasts

    def spent(self, pairs: int) -> float:
        """How much of `alpha` may be used up to the look at so many pairs."""
        return self.alpha * float((pairs / self.at_most) ** POWER)

    def critical(self, pairs: int) -> float:
        """How large |t| must be at so many pairs; NaN where there is no look.

        With one look (`first` = `at_most`) it is Student's quantile of the pairs that came.
        """
        if self.first == self.at_most:
            return student(self.alpha, pairs) if pairs >= 2 else float("nan")
        if not self.first <= pairs <= self.at_most:
            return float("nan")
        return boundaries(self)[pairs - self.first]


def student(alpha: float, pairs: int) -> float:
    """The two-sided quantile of Student's t for a mean of `pairs` differences."""
    return float(stats.t.isf(alpha / 2, pairs - 1))


@cache
def boundaries(design: Design) -> tuple[float, ...]:
    """What |t| must exceed at each look: the first exact, the others over `PATHS` studies."""
    random = np.random.default_rng(0)
    total, squares = np.zeros(PATHS), np.zeros(PATHS)
    inside = np.ones(PATHS, dtype=bool)
    limits: list[float] = []
    for pairs in range(1, design.at_most + 1):
        values = random.standard_normal(PATHS)
        total += values
        squares += values * values
        if pairs < design.first:
            continue
        spread = np.maximum(squares - total * total / pairs, 1e-300)
        t = np.abs(total) * np.sqrt((pairs - 1) / (pairs * spread))
        if pairs == design.first:
            limits.append(student(design.spent(pairs), pairs))
        else:
            crossed = PATHS - int(inside.sum())
            may = max(1, round(design.spent(pairs) * PATHS) - crossed)
            left = t[inside]
            limits.append(float(np.partition(left, len(left) - may)[len(left) - may]))
        inside &= t < limits[-1]
    return tuple(limits)
