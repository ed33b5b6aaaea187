"""Intervals, p values and verdicts as words."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from study.analysis.scaling import Comparison, Interval

MOST = 8
"""Names that are listed in a sentence; the others are counted."""
DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def verdict(one: Comparison) -> str:
    """A comparison in words."""
    if one.identical:
        return f"identical on all {one.difference.n} seeds"
    if not one.enough_evidence:
        return "not enough evidence"
    return f"{one.first if one.difference.mean > 0 else one.second} is better"


def bounds(found: Interval) -> str:
    """An interval in brackets, in % or points."""
    if not math.isfinite(found.low):
        why = "" if found.n < 2 else ", the same on every seed"
        return f"no interval{why}, n = {found.n}"
    return f"95 % interval {between(found)}, n = {found.n}"


def between(found: Interval) -> str:
    """The ends of an interval, in % or points."""
    if not math.isfinite(found.low):
        return DASH
    return f"{percent(found.low)} to {percent(found.high)}"


def listed(names: Sequence[str], most: int = MOST) -> str:
    """Names as a list for people: "a, b and c"; above `most` the rest is counted."""
    shown = list(names[:most])
    # Names with commas of their own are kept apart by something stronger.
    comma = "; " if any(", " in one for one in shown) else ", "
    if len(names) > most:
        return f"{comma.join(shown)} and {len(names) - most} more"
    return " and ".join(part for part in (comma.join(shown[:-1]), *shown[-1:]) if part)


def number(value: float, digits: int = 3) -> str:
    """A number to so many digits, with a real minus sign; a dash where there is none."""
    if value != value:
        return DASH
    return f"{value:.{digits}g}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds as people say them, in two units at most: "9 min 18 s"."""
    whole = round(seconds)
    for name, size, below in (("d", 86400, "h"), ("h", 3600, "min"), ("min", 60, "s")):
        if whole >= size:
            rest = (whole % size) // {"h": 3600, "min": 60, "s": 1}[below]
            return f"{whole // size} {name}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def moment(time: float) -> str:
    """A moment (unix seconds) as date and time."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"


def p_text(p: float) -> str:
    """A p value to two digits, with its relation, never written as 0."""
    if p != p:
        return DASH
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in %, with a real minus sign; a dash where there is none."""
    if value is None or value != value:
        return DASH
    rounded = round(100 * value, digits) + 0.0  # + 0.0 turns −0.0 into 0.0
    return f"{rounded:.{digits}f}".replace("-", MINUS)


def signed(value: float) -> str:
    """A difference in points with its sign."""
    return f"{'+' if value > 0 else ''}{percent(value)}"
