"""A look at a contrast: its interval, its verdict, and the seeds that it still needs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from study.evidence.boundaries import Design
from study.evidence.intervals import ROUNDING, interval, size

Verdict = Literal["higher", "lower", "equal", "undecided", "identical"]
Reason = Literal["", "few_seeds", "no_spread", "not_finite", "wide"]


@dataclass(frozen=True)
class Look:
    """What the pairs of a contrast say; the difference is the first arm minus the second.

    `low` and `high` are the repeated confidence interval, which holds over all looks and contrasts
    at once (Jennison and Turnbull 1989, JRSS B 51, 305–361); NaN where there is none. `reason` says
    why a contrast is undecided.
    """

    contrast: str
    seeds: tuple[int, ...]
    mean: float
    std: float
    low: float
    high: float
    verdict: Verdict
    reason: Reason
    by_less_than_margin: bool
    non_inferior: bool
    next_seeds: tuple[int, ...]

    @property
    def decided(self) -> bool:
        """Whether it is higher, lower or equal."""
        return self.verdict in ("higher", "lower", "equal")


def look(
    contrast: str,
    first: Mapping[int, float],
    second: Mapping[int, float],
    design: Design,
    margin: float,
    order: Sequence[int],
    tried: Iterable[int] = (),
    non_inferiority: bool = False,
) -> Look:
    """Looks at the pairs that came.

    Args:
        contrast: its name.
        first: seed → value of the first arm; a failed seed is left out.
        second: the same of the second arm.
        design: the looks and the error rate.
        margin: differences inside (−margin, margin) are equal: two one-sided tests as inclusion of
            the interval (Schuirmann 1987, J. Pharmacokin. Biopharm. 15, 657–680).
        order: the seeds in the order in which they are spent, `at_most` of them.
        tried: seeds that ended, with a value or failed; those with a value count anyway.
        non_inferiority: no further seeds either once the interval lies above −margin.
    """
    if not margin > 0:
        raise ValueError(f"margin must be above 0, but got {margin}.")
    if len(set(order)) != design.at_most or len(order) != design.at_most:
        raise ValueError(f"order must have {design.at_most} different seeds, but got {order}.")
    seeds = tuple(seed for seed in order if seed in first and seed in second)
    ours, theirs = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    change = interval([a - b for a, b in zip(ours, theirs, strict=True)])
    least = ROUNDING * size(ours, theirs)
    low = high = math.nan
    verdict: Verdict = "undecided"
    reason: Reason = ""
    if not all(map(math.isfinite, (*ours, *theirs))):
        reason = "not_finite"
    elif change.n < 2:
        reason = "few_seeds"
    elif abs(change.mean) <= least and change.std <= least:
        verdict = "identical"
    elif change.std <= least:
        reason = "no_spread"
    elif math.isnan(limit := design.critical(change.n)):
        reason = "few_seeds"
    else:
        half = limit * change.std / math.sqrt(change.n)
        low, high = change.mean - half, change.mean + half
        verdict = judge(low, high, margin)
        reason = "wide" if verdict == "undecided" else ""
    above = low > -margin
    is_open = verdict == "undecided" and reason != "not_finite" and not (non_inferiority and above)
    ended = {*tried, *first, *second}
    untried = [seed for seed in order if seed not in ended]
    step = max(1, design.first - (len(order) - len(untried)))
    return Look(
        contrast=contrast,
        seeds=seeds,
        mean=change.mean,
        std=change.std,
        low=low,
        high=high,
        verdict=verdict,
        reason=reason,
        by_less_than_margin=(verdict == "higher" and high < margin)
        or (verdict == "lower" and low > -margin),
        non_inferior=above,
        next_seeds=tuple(untried[:step]) if is_open else (),
    )


def judge(low: float, high: float, margin: float) -> Verdict:
    """The verdict of an interval: a side of 0 comes before equality, so that they exclude."""
    if low > 0:
        return "higher"
    if high < 0:
        return "lower"
    return "equal" if -margin < low and high < margin else "undecided"


def further_seeds(
    looks: Iterable[Look], arms: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[int, ...]]:
    """Cell → further seeds: those that any of its open contrasts asks for, each once."""
    wanted: dict[str, set[int]] = {}
    for seen in looks:
        for cell in arms[seen.contrast] if seen.next_seeds else ():
            wanted.setdefault(cell, set()).update(seen.next_seeds)
    return {cell: tuple(sorted(seeds)) for cell, seeds in wanted.items()}
