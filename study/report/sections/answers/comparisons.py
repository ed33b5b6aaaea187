"""Differences of all pairs of cells within each group: a description."""

from study.analysis.summary import ALL
from study.evidence import Comparison
from study.report.section import Block, Findings, Folded, Paragraph, Section, Table
from study.report.wording import between, percent

TITLE = "All pairs of cells"
PAIRED = (
    "Described, not tested: final accuracy of the first minus that of the second on the same "
    "seeds, each with its own 95 % interval. Of many such intervals some leave 0 out by chance; "
    "what is to be decided is declared as a contrast. Neither two reference points stand here nor "
    "settings that differ in more than one key."
)
DESCRIBED = ("points", "95 % interval", "n")
MOST_PAIRS = 24
"""More pairs of cells than this are folded away; comparisons.csv has all."""
MOST_ROWS = 300


def section(findings: Findings) -> Section:
    """The table of pairs; nothing on the page where there is none."""
    comparisons = findings.comparisons
    several = any(pair.group != ALL for pair in comparisons)
    rows = [
        {
            **({"cells": pair.group} if several else {}),
            "difference in final accuracy": f"{pair.first} minus {pair.second}",
            **described(pair),
        }
        for pair in comparisons[:MOST_ROWS]
    ]
    table: Block = Table(rows, DESCRIBED)
    if len(comparisons) > MOST_PAIRS:
        title = f"{len(comparisons)} pairs; all are in comparisons.csv"
        table = Folded(title, Table(rows, DESCRIBED))
    data = {"comparisons": comparisons}
    return Section(TITLE, (Paragraph(PAIRED), table) if rows else (), data)


def described(pair: Comparison) -> dict[str, str]:
    """The columns of a pair: the difference in points, its own interval, and its seeds."""
    return {
        "points": percent(pair.difference.mean),
        "95 % interval": "identical" if pair.identical else between(pair.difference),
        "n": str(pair.difference.n),
    }
