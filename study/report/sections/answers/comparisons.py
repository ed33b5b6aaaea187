"""Cells compared in pairs: all pairs of each group, with the verdict."""

from dataclasses import asdict

from study.analysis.summary import ALL
from study.evidence import Comparison
from study.report.section import Block, Findings, Folded, Paragraph, Section, Table
from study.report.wording import between, p_text, percent, verdict

TITLE = "Cells compared in pairs"
PAIRED = (
    "Paired t-test on the same seeds, Holm's correction over all {count} comparisons. Where the "
    "interval of the difference contains 0, or the corrected p is above 0.05, it says “not enough "
    "evidence”; so it does where the difference is the same on all seeds and not 0, since then "
    "nothing tells how much another seed would differ. Neither two reference points are compared "
    "with each other nor settings that differ in more than one key."
)
TESTED = ("points", "95 % interval", "n", "p", "p (Holm)")
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
            **tested(pair),
            "verdict": verdict(pair),
        }
        for pair in comparisons[:MOST_ROWS]
    ]
    shown = sum(pair.enough_evidence for pair in comparisons)
    table: Block = Table(rows, TESTED)
    if len(comparisons) > MOST_PAIRS:
        title = f"{len(comparisons)} pairs, of {shown} a difference is shown"
        table = Folded(f"{title}; all are in comparisons.csv", Table(rows, TESTED))
    about = Paragraph(PAIRED.format(count=len(comparisons)))
    data = [{**asdict(pair), "enough_evidence": pair.enough_evidence} for pair in comparisons]
    return Section(TITLE, (about, table) if rows else (), {"comparisons": data})


def tested(pair: Comparison) -> dict[str, str]:
    """The columns of a paired comparison: the difference in points and what it is worth."""
    return {
        "points": percent(pair.difference.mean),
        "95 % interval": between(pair.difference),
        "n": str(pair.difference.n),
        "p": p_text(pair.p).removeprefix("= "),
        "p (Holm)": p_text(pair.p_holm).removeprefix("= "),
    }
