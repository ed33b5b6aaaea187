"""Described, not tested: who is highest, what is alike, what more tasks change."""

from collections import Counter
from collections.abc import Sequence

from study.analysis.summary import ALL, CellSummary, Standing
from study.analysis.task_scaling import task_change
from study.evidence import Comparison
from study.report.section import Block, Bullets, Findings, Heading, Paragraph, Section, Table
from study.report.sections.answers.protocols import cost_sentence, protocol_costs
from study.report.wording import (
    DASH,
    MOST_ROWS,
    between,
    bounds,
    cut_note,
    listed,
    percent,
    signed,
    with_interval,
)

TITLE = "Described, not tested"
MOST_GROUPS = 3
"""More groups of cells than this are counted, and told apart in the table only."""
MOST_NAMES = 6
"""Up to so many names are listed."""


def section(findings: Findings) -> Section:
    """The sentences, and the best of each group where these are many."""
    words = description(findings)
    # Without contrasts they are the answer.
    blocks: tuple[Block, ...] = (Bullets(words),) if words and findings.contrasts else ()
    data = {"described": words, "standings": findings.standings}
    return Section(TITLE, (*blocks, *_best_of_groups(findings)), data)


def description(findings: Findings) -> list[str]:
    """What else is to be seen, in a few sentences without verdicts."""
    cells, standings = findings.cells, findings.standings
    if not standings:
        return []
    few = len(standings) <= MOST_GROUPS
    missing = [cell.label for cell in cells if not cell.final.n]
    words = [
        highest(standings) if few else counted(standings),
        identical(findings.comparisons, few),
        references_above(standings),
        near_chance(cells),
        change_with_tasks(cells),
        f"Not confirmed yet, and left out here: {listed(missing)}." if missing else "",
        cost_sentence(protocol_costs(findings.study, cells)),
    ]
    return [sentence for sentence in words if sentence]


def _best_of_groups(findings: Findings) -> tuple[Block, ...]:
    """The best of each group as a table; nothing where sentences say it all."""
    leaders = [leader for leader in findings.standings if leader.others]
    if len(leaders) <= MOST_GROUPS:
        return ()
    rows = [
        {
            "cells": leader.group,
            "highest": " = ".join(leader.best),
            "final accuracy, %": with_interval(leader.final),
            "reference points at least as high": listed(
                [f"{name} {percent(value)} %" for name, value in leader.references_above],
                MOST_NAMES,
            )
            or DASH,
        }
        for leader in leaders[:MOST_ROWS]
    ]
    about = f"By the means, with no verdict.{cut_note(len(leaders))}"
    table = Table(rows, ("final accuracy, %",))
    return (Heading("The best of each group"), Paragraph(about), table)


def highest(standings: Sequence[Standing]) -> str:
    """Which setting leads in each of a few groups, and with what."""
    parts = []
    for leader in standings:
        names = " and ".join(leader.best)
        where = f" in {leader.group}" if leader.group != ALL else ""
        value = f"{percent(leader.final.mean)} % ({bounds(leader.final)})"
        parts.append(f"{names}{where}{',' if leader.others else ''} {value}")
    single = not any(leader.others for leader in standings)
    first = "Mean final accuracy" if single else "Highest mean final accuracy"
    chances = {leader.chance for leader in standings}
    known = len(chances) == 1 and chances != {None}
    chance = f"; chance is {percent(chances.pop())} %" if known else ""
    return f"{first}: {'; '.join(parts)}{chance}."


def counted(standings: Sequence[Standing]) -> str:
    """How often each leads, where there are many groups."""
    compared = [leader for leader in standings if leader.others]
    low = min(standings, key=lambda leader: leader.final.mean)
    high = max(standings, key=lambda leader: leader.final.mean)
    ends = (
        f"mean final accuracy lies between {percent(low.final.mean)} % ({low.name}) and "
        f"{percent(high.final.mean)} % ({high.name})"
    )
    if not compared:
        return f"Over {len(standings)} groups of cells the {ends}."
    counts = Counter(name for leader in compared for name in leader.best)
    leads = listed([f"{name} in {number}" for name, number in counts.most_common()])
    return (
        f"Of {len(compared)} groups of cells, highest mean final accuracy is reached by {leads} "
        f"(table below); of the best the {ends}."
    )


def identical(comparisons: Sequence[Comparison], few: bool) -> str:
    """Pairs whose final accuracies are the same on every seed."""
    same: dict[tuple[str, str, int], list[str]] = {}
    for pair in comparisons:
        if pair.identical:
            key = (pair.first, pair.second, pair.difference.n)
            same.setdefault(key, []).append(pair.group)
    if not same:
        return ""
    if not few or len(same) > MOST_GROUPS:
        number = sum(map(len, same.values()))
        pairs = "1 pair has" if number == 1 else f"{number} pairs have"
        return f"{pairs} identical final accuracies on all their seeds."
    texts = []
    for (first, second, n), groups in same.items():
        where = "" if groups == [ALL] else f" in {' and in '.join(groups)}"
        texts.append(f"{first} = {second}{where} (all {n} seeds)")
    return f"Identical final accuracy on every seed: {'; '.join(texts)}."


def references_above(standings: Sequence[Standing]) -> str:
    """Reference points that reach at least as much as the best."""
    parts = [
        f"{name} {percent(value)} %" + (f" in {leader.group}" if leader.group != ALL else "")
        for leader in standings
        for name, value in leader.references_above
    ]
    if not parts:
        return ""
    return f"Reference points with a mean at least as high as the best: {listed(parts)}."


def near_chance(cells: Sequence[CellSummary]) -> str:
    """Cells whose interval holds the accuracy of guessing."""
    low = [
        f"{cell.label} ({percent(cell.final.mean)} %)"
        for cell in cells
        if cell.chance is not None and cell.final.n > 1 and cell.final.low <= cell.chance
    ]
    if not low:
        return ""
    return f"With the accuracy of guessing inside the interval: {listed(low, MOST_GROUPS)}."


def change_with_tasks(cells: Sequence[CellSummary]) -> str:
    """Final accuracy at the most tasks against the fewest, where only these vary."""
    change = task_change(cells)
    if change is None:
        return ""
    parts = []
    for own in change.changes:
        interval = f" (95 % interval {between(own.difference)})" if own.difference.n > 1 else ""
        parts.append(f"{own.group} {signed(own.difference.mean)}{interval}")
    return (
        f"From {change.least} to {change.most} tasks final accuracy changes by, in points: "
        f"{listed(parts, MOST_NAMES)}."
    )
