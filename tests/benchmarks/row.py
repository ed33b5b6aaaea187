"""One line of the table of benchmarks."""

from dataclasses import dataclass

# Three decimals say too little of what is below.
SMALL = 0.01


@dataclass(frozen=True)
class Row:
    """A ratio measured in one run, and the most (`at_least`: the least) that it should be.

    A row without a `limit` is stated and not judged; one without a `ratio` was not measured, and
    its note says why.
    """

    name: str
    ratio: float | None
    limit: float | None = None
    note: str = ""
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """The word for the table: "ok", "OVER", "UNDER", "stated" or "not measured"."""
        if self.ratio is None:
            return "not measured"
        if self.limit is None:
            return "stated"
        if self.at_least:
            return "ok" if self.ratio >= self.limit else "UNDER"
        return "ok" if self.ratio <= self.limit else "OVER"

    @property
    def line(self) -> str:
        """The row as one line of the table."""
        value = "—"
        if self.ratio is not None:
            value = f"{self.ratio:.3f}" if abs(self.ratio) >= SMALL else f"{self.ratio:.1e}"
        bound = ""
        if self.limit is not None:
            bound = f"{'at least' if self.at_least else 'at most'} {self.limit:g}"
        return f"{self.name:<66} {value:>8}  {bound:<14} {self.verdict:<12} {self.note}".rstrip()
