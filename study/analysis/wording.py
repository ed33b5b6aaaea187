"""Intervals, p values and verdicts as words."""

from study.analysis.scaling import Comparison, Interval

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def verdict(one: Comparison) -> str:
    """A comparison in words."""
    if not one.enough_evidence:
        return "not enough evidence"
    return f"{one.first if one.difference.mean > 0 else one.second} is better"


def bounds(found: Interval) -> str:
    """An interval in brackets, in % or points."""
    if found.n < 2:
        return f"no interval, n = {found.n}"
    return f"95 % interval {between(found)}, n = {found.n}"


def between(found: Interval) -> str:
    """The ends of an interval, in % or points."""
    return f"{percent(found.low)} to {percent(found.high)}" if found.n > 1 else DASH


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
