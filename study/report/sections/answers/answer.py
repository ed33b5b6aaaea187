"""Short answer: what was found in about six sentences, and the best of each group as a table."""

import math
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

TITLE = "Short answer"
BASELINE = "sequential"
"""Plain fine-tuning, task after task: what a method must beat to be worth its name."""
MOST_GROUPS = 3
"""More groups of cells than this are counted in the answer, and told apart in the table only."""
FEW, MOST_NAMES = 2, 6
"""Up to so many differences are given with their numbers, and so many names are listed."""


def section(findings: Findings) -> Section:
    """The sentences, and the table where they only count."""
    words = answers(findings)
    data = {"answer": words, "standings": findings.standings}
    return Section(TITLE, (Bullets(words, "answer"), *_best_of_groups(findings)), data)


def answers(findings: Findings) -> list[str]:
    """The short answer: about six sentences, the rest is for tables."""
    cells, comparisons, standings = findings.cells, findings.comparisons, findings.standings
    costs = cost_sentence(protocol_costs(findings.study, cells))
    if not standings:
        return ["No cell has been confirmed on test images yet: there is no answer."]
    few = len(standings) <= MOST_GROUPS
    words = [highest(standings) if few else counted(standings)]
    compared = [leader for leader in standings if leader.compared]
    if compared and not any(leader.better_than or leader.worse_than for leader in compared):
        words.append(nothing_shown(compared))
        words.append(room_left(compared, comparisons) if few else "")
    elif few:
        words += [against_others(leader, comparisons) for leader in compared]
    elif compared:
        words.append(evidence_counted(compared))
    words += [
        identical(comparisons, few),
        against_baseline(cells, comparisons, few),
        references_above(standings),
        near_chance(cells),
        change_with_tasks(cells),
    ]
    missing = [cell.label for cell in cells if not cell.final.n]
    if missing:
        words.append(f"Not confirmed yet, and left out here: {listed(missing)}.")
    return [sentence for sentence in (*words, costs) if sentence]


def _best_of_groups(findings: Findings) -> tuple[Block, ...]:
    """The best of each group beside what is shown of it; nothing where sentences say it all."""
    compared = [leader for leader in findings.standings if leader.compared]
    largest = max((len(leader.compared) for leader in compared), default=0)
    if not compared or (len(compared) <= MOST_GROUPS and largest <= MOST_NAMES):
        return ()
    rows = [
        {
            "cells": leader.group,
            "highest": " = ".join(leader.best),
            "final accuracy, %": with_interval(leader.final),
            "shown to be better than": _names(leader.better_than),
            "shown to be worse than": _names(leader.worse_than),
            "identical on every seed to": _names(leader.identical),
            "not enough evidence against": _names(leader.open),
        }
        for leader in compared[:MOST_ROWS]
    ]
    empty = {
        "identical on every seed to": not any(leader.identical for leader in compared),
        "cells": all(leader.group == ALL for leader in compared),
    }
    about = (
        f"Paired over seeds, Holm's correction over all {len(findings.comparisons)} comparisons of "
        f"the study.{cut_note(len(compared))}"
    )
    shown = [{key: value for key, value in row.items() if not empty.get(key)} for row in rows]
    table = Table(shown, ("final accuracy, %",))
    return (Heading("The best of each group"), Paragraph(about), table)


def _names(names: Sequence[str]) -> str:
    return listed(names, MOST_NAMES) or DASH


def highest(standings: Sequence[Standing]) -> str:
    """Which setting leads in each of a few groups, and with what."""
    parts = []
    for leader in standings:
        names = " and ".join(leader.best)
        where = f" in {leader.group}" if leader.group != ALL else ""
        value = f"{percent(leader.final.mean)} % ({bounds(leader.final)})"
        parts.append(f"{names}{where}{',' if leader.compared else ''} {value}")
    single = not any(leader.compared for leader in standings)
    first = "Mean final accuracy" if single else "Highest mean final accuracy"
    chances = {leader.chance for leader in standings}
    known = len(chances) == 1 and chances != {None}
    chance = f"; chance is {percent(chances.pop())} %" if known else ""
    return f"{first}: {'; '.join(parts)}{chance}."


def counted(standings: Sequence[Standing]) -> str:
    """How often each leads, where there are many groups."""
    compared = [leader for leader in standings if leader.compared]
    low = min(standings, key=lambda leader: leader.final.mean)
    high = max(standings, key=lambda leader: leader.final.mean)
    ends = (
        f"mean final accuracy lies between {percent(low.final.mean)} % ({low.name}) and "
        f"{percent(high.final.mean)} % ({high.name})"
    )
    if not compared:
        return f"Over {len(standings)} groups of cells the {ends}."
    counts = Counter(name for leader in compared for name in leader.best)
    leads = listed([f"{name} in {count}" for name, count in counts.most_common()])
    return (
        f"Of {len(compared)} groups of cells, highest mean final accuracy is reached by {leads} "
        f"(table below); of the best the {ends}."
    )


def against_others(leader: Standing, comparisons: Sequence[Comparison]) -> str:
    """What is shown, and what is not, of the best of a group against all others."""
    where = "" if leader.group == ALL else f"{leader.group}: "
    names = " and ".join(leader.best)

    def numbered(others: Sequence[str]) -> str:
        if len(others) > FEW:
            return listed(others)
        return " and ".join(f"{name}{_difference(leader, name, comparisons)}" for name in others)

    shown = {"better": leader.better_than, "worse": leader.worse_than}
    parts = [
        f"{names} is shown to be {word} than {numbered(others)}"
        for word, others in shown.items()
        if others
    ]
    if leader.open:
        begin = "there is" if parts else f"{names}: there is"
        parts.append(f"{begin} not enough evidence of a difference from {numbered(leader.open)}")
    return f"{where}{'; '.join(parts)}." if parts else ""


def nothing_shown(standings: Sequence[Standing]) -> str:
    """For all groups at once, where not a single difference from the best is shown."""
    others = list(dict.fromkeys(name for leader in standings for name in leader.open))
    if not others:
        return ""
    groups = "" if len(standings) == 1 else f", in any of {len(standings)} groups of cells,"
    return (
        f"There is not enough evidence{groups} that the highest differs from any other: "
        f"{listed(others)}."
    )


def room_left(standings: Sequence[Standing], comparisons: Sequence[Comparison]) -> str:
    """How large a difference that was not shown may still be, where few are open."""
    parts = []
    for leader in standings:
        texts = []
        for pair in comparisons:
            names = {pair.first, pair.second}
            others = names - {leader.best[0]}
            known = math.isfinite(pair.difference.low) and not pair.identical
            if pair.group == leader.group and leader.best[0] in names and known:
                most = max(abs(pair.difference.low), abs(pair.difference.high))
                texts.append(f"from {others.pop()} {percent(most)}")
        if len(texts) > MOST_GROUPS:
            return ""
        if texts:
            parts.append((f"{leader.group}: " if leader.group != ALL else "") + listed(texts))
    if not parts:
        return ""
    return (
        f"By each one's own 95 % interval it differs at most by, in points either way: "
        f"{'; '.join(parts)}."
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
        count = sum(map(len, same.values()))
        pairs = "1 pair has" if count == 1 else f"{count} pairs have"
        return f"{pairs} identical final accuracies on all their seeds."
    texts = []
    for (first, second, n), groups in same.items():
        where = "" if groups == [ALL] else f" in {' and in '.join(groups)}"
        texts.append(f"{first} = {second}{where} (all {n} seeds)")
    return f"Identical final accuracy on every seed: {'; '.join(texts)}."


def _difference(leader: Standing, other: str, comparisons: Sequence[Comparison]) -> str:
    """The difference as a parenthesis; "" where it was not compared on two seeds or more."""
    for pair in comparisons:
        if pair.group == leader.group and {pair.first, pair.second} == {leader.best[0], other}:
            if pair.difference.n < 2:
                return f" ({pair.difference.n} common seed{'' if pair.difference.n == 1 else 's'})"
            sign = 1 if pair.first == leader.best[0] else -1
            low, high = sorted((sign * pair.difference.low, sign * pair.difference.high))
            return (
                f" ({signed(sign * pair.difference.mean)} points, 95 % interval {percent(low)} to "
                f"{percent(high)})"
            )
    return ""


def evidence_counted(standings: Sequence[Standing]) -> str:
    """In how many of many groups the best is shown to be the best, and in how many it is not."""
    alone = sum(not leader.open and not leader.worse_than for leader in standings)
    none = sum(not leader.better_than for leader in standings)
    return (
        f"The highest is shown to be better than all others of its group in {alone} of "
        f"{len(standings)} groups; in {none} there is not enough evidence that it is better than "
        f"any of them."
    )


def against_baseline(
    cells: Sequence[CellSummary], comparisons: Sequence[Comparison], few: bool
) -> str:
    """Whether the methods under study beat sequential fine-tuning; "" where it is not there."""
    studied = {(c.group, c.contender) for c in cells if not c.reference and c.final.n}
    verdicts: dict[str, dict[str, list[str]]] = {}
    for pair in comparisons:
        name = pair.second if pair.first == BASELINE else pair.first
        if BASELINE in (pair.first, pair.second) and (pair.group, name) in studied:
            gain = pair.difference.mean if pair.first == name else -pair.difference.mean
            word = "identical" if few and pair.identical else "not enough evidence"
            if pair.enough_evidence:
                word = "better" if gain > 0 else "worse"
            verdicts.setdefault(pair.group, {}).setdefault(word, []).append(name)
    if not verdicts:
        return ""
    if not few:
        counts = Counter(
            word for own in verdicts.values() for word, names in own.items() for _ in names
        )
        return (
            f"Against sequential fine-tuning, of {counts.total()} comparisons {counts['better']} "
            f"show that it is beaten, {counts['worse']} that it is not, and "
            f"{counts['not enough evidence']} are not enough evidence."
        )
    texts = {
        group: ", ".join(
            f"{word} for {listed(names)}"
            if word == "not enough evidence"
            else f"{listed(names)} {'are' if len(names) > 1 else 'is'} {word}"
            for word, names in own.items()
        )
        for group, own in verdicts.items()
    }
    if len(set(texts.values())) == 1:
        where = f" (in {' and in '.join(texts)})" if len(texts) > 1 else ""
        return f"Against sequential fine-tuning{where}: {next(iter(texts.values()))}."
    return f"Against sequential fine-tuning: {'; '.join(f'{g}, {t}' for g, t in texts.items())}."


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
    return f"Not shown to be above chance: {listed(low, MOST_GROUPS)}." if low else ""


def change_with_tasks(cells: Sequence[CellSummary]) -> str:
    """Final accuracy at the most tasks against the fewest, where only these vary."""
    change = task_change(cells)
    if change is None:
        return ""
    shown = [
        f"{own.group} {signed(own.difference.mean)} (95 % interval {between(own.difference)})"
        for own in change.changes
        if own.enough_evidence
    ]
    unclear = [own.group for own in change.changes if not own.enough_evidence]
    parts = []
    if shown:
        parts.append(f"final accuracy changes by, in points: {listed(shown, MOST_NAMES)}")
    if unclear:
        parts.append(f"not enough evidence of a change for {listed(unclear)}")
    return f"From {change.least} to {change.most} tasks: {'; '.join(parts)}."
