"""One line of the table of benchmarks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A ratio measured in one run, and the most that it should be."""

    name: str
    ratio: float
    limit: float
    note: str = ""
