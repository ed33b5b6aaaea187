"""What stands in place of a result where the records do not suffice for one."""

from dataclasses import dataclass

LEAST_SEEDS = 3
"""Fewer repetitions than this give intervals too wide to say anything."""


@dataclass(frozen=True)
class NotEnough:
    """Not enough evidence: `reason` says what is missing, as words that follow a colon."""

    reason: str


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 seed, 3 seeds."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
