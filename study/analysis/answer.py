"""The short answer in words, made from the numbers and from nothing else."""

import math
from collections import Counter
from collections.abc import Sequence

from study.analysis.scaling import Comparison
from study.analysis.standing import Standing
from study.analysis.summary import ALL, CellSummary
from study.analysis.task_change import task_change
from study.analysis.wording import bounds, listed, percent, signed

BASELINE = "sequential"
"""Plain fine-tuning, task after task: what a method must beat to be worth its name."""
MOST_GROUPS = 3
"""More groups of cells than this are counted in the answer, and told apart in the table only."""
FEW = 2
"""Up to so many differences are given with their numbers."""


def answers(
    cells: Sequence[CellSummary],
    comparisons: Sequence[Comparison],
    standings: Sequence[Standing],
) -> list[str]:
    """The short answer: about six sentences, the rest is for tables."""
    if not standings:
        return ["No cell has been confirmed on test images yet: there is no answer."]
    few = len(standings) <= MOST_GROUPS
    found = [_highest(standings) if few else _counted(standings)]
    compared = [one for one in standings if one.compared]
    if compared and not any(one.better_than or one.worse_than for one in compared):
        found.append(_nothing_shown(compared))
        found.append(_room_left(compared, comparisons) if few else "")
    elif few:
        found += [_against_others(one, comparisons) for one in compared]
    elif compared:
        found.append(_evidence_counted(compared))
    found.append(_identical(comparisons, few))
    found.append(_against_baseline(cells, comparisons, few))
    found += [_references_above(standings), _near_chance(cells)]
    found.append(task_change(cells))
    missing = [one.label for one in cells if not one.final.n]
    if missing:
        found.append(f"Not confirmed yet, and left out here: {listed(missing)}.")
    return [one for one in found if one]


def _highest(standings: Sequence[Standing]) -> str:
    """Which setting leads in each of a few groups, and with what."""
    parts = []
    for one in standings:
        names = " and ".join(one.best)
        where = f" in {one.group}" if one.group != ALL else ""
        value = f"{percent(one.final.mean)} % ({bounds(one.final)})"
        parts.append(f"{names}{where}, {value}" if one.compared else f"{names}{where} {value}")
    single = not any(one.compared for one in standings)
    first = "Mean final accuracy" if single else "Highest mean final accuracy"
    chances = {one.chance for one in standings}
    chance = "" if chances == {None} or len(chances) > 1 else f"; chance is {_percent(chances)}"
    return f"{first}: {'; '.join(parts)}{chance}."


def _percent(chances: set[float | None]) -> str:
    return f"{percent(next(iter(chances)))} %"


def _counted(standings: Sequence[Standing]) -> str:
    """How often each leads, where there are many groups."""
    compared = [one for one in standings if one.compared]
    low = min(standings, key=lambda one: one.final.mean)
    high = max(standings, key=lambda one: one.final.mean)
    ends = (
        f"mean final accuracy lies between {percent(low.final.mean)} % ({low.name}) and "
        f"{percent(high.final.mean)} % ({high.name})"
    )
    if not compared:
        return f"Over {len(standings)} groups of cells the {ends}."
    counts = Counter(name for one in compared for name in one.best)
    leads = listed([f"{name} in {count}" for name, count in counts.most_common()])
    return (
        f"Of {len(compared)} groups of cells, highest mean final accuracy is reached by {leads} "
        f"(table below); of the best the {ends}."
    )


def _against_others(one: Standing, comparisons: Sequence[Comparison]) -> str:
    """What is shown, and what is not, of the best of a group against all others."""
    where = "" if one.group == ALL else f"{one.group}: "
    names = " and ".join(one.best)

    def numbered(others: Sequence[str]) -> str:
        if len(others) > FEW:
            return listed(others)
        return " and ".join(f"{other}{_difference(one, other, comparisons)}" for other in others)

    parts = []
    if one.better_than:
        parts.append(f"{names} is shown to be better than {numbered(one.better_than)}")
    if one.worse_than:
        parts.append(f"{names} is shown to be worse than {numbered(one.worse_than)}")
    if one.open:
        begin = "there is" if parts else f"{names}: there is"
        parts.append(f"{begin} not enough evidence of a difference from {numbered(one.open)}")
    return f"{where}{'; '.join(parts)}." if parts else ""


def _nothing_shown(standings: Sequence[Standing]) -> str:
    """In one sentence for all groups, where not one difference from the best is shown."""
    others = list(dict.fromkeys(name for one in standings for name in one.open))
    if not others:
        return ""
    groups = "" if len(standings) == 1 else f", in any of {len(standings)} groups of cells,"
    return (
        f"There is not enough evidence{groups} that the highest differs from any other: "
        f"{listed(others)}."
    )


def _room_left(standings: Sequence[Standing], comparisons: Sequence[Comparison]) -> str:
    """How large a difference that was not shown may still be, where few are open."""
    parts = []
    for one in standings:
        texts = []
        for pair in comparisons:
            names = {pair.first, pair.second}
            others = names - {one.best[0]}
            known = math.isfinite(pair.difference.low) and not pair.identical
            if pair.group == one.group and one.best[0] in names and known:
                most = max(abs(pair.difference.low), abs(pair.difference.high))
                texts.append(f"from {others.pop()} {percent(most)}")
        if len(texts) > MOST_GROUPS:
            return ""
        if texts:
            parts.append((f"{one.group}: " if one.group != ALL else "") + listed(texts))
    if not parts:
        return ""
    return (
        f"By each one's own 95 % interval it differs at most by, in points either way: "
        f"{'; '.join(parts)}."
    )


def _identical(comparisons: Sequence[Comparison], few: bool) -> str:
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


def _difference(one: Standing, other: str, comparisons: Sequence[Comparison]) -> str:
    """The difference as a parenthesis; "" where it was not compared on two seeds or more."""
    for pair in comparisons:
        if pair.group == one.group and {pair.first, pair.second} == {one.best[0], other}:
            if pair.difference.n < 2:
                return f" ({pair.difference.n} common seed{'' if pair.difference.n == 1 else 's'})"
            sign = 1 if pair.first == one.best[0] else -1
            low, high = sorted((sign * pair.difference.low, sign * pair.difference.high))
            return (
                f" ({signed(sign * pair.difference.mean)} points, 95 % interval {percent(low)} to "
                f"{percent(high)})"
            )
    return ""


def _evidence_counted(standings: Sequence[Standing]) -> str:
    alone = sum(not one.open and not one.worse_than for one in standings)
    none = sum(not one.better_than for one in standings)
    return (
        f"The highest is shown to be better than all others of its group in {alone} of "
        f"{len(standings)} groups; in {none} there is not enough evidence that it is better than "
        f"any of them."
    )


def _against_baseline(
    cells: Sequence[CellSummary], comparisons: Sequence[Comparison], few: bool
) -> str:
    """Whether the methods under study beat sequential fine-tuning; "" where it is not there."""
    studied = {(one.group, one.contender) for one in cells if not one.reference and one.final.n}
    verdicts: dict[str, dict[str, list[str]]] = {}
    for pair in comparisons:
        if BASELINE not in (pair.first, pair.second):
            continue
        name = pair.second if pair.first == BASELINE else pair.first
        if (pair.group, name) in studied:
            gain = pair.difference.mean if pair.first == name else -pair.difference.mean
            word = "identical" if few and pair.identical else "not enough evidence"
            if pair.enough_evidence:
                word = "better" if gain > 0 else "worse"
            verdicts.setdefault(pair.group, {}).setdefault(word, []).append(name)
    if not verdicts:
        return ""
    if not few:
        counts = Counter(
            word for found in verdicts.values() for word, names in found.items() for _ in names
        )
        total = sum(counts.values())
        return (
            f"Against sequential fine-tuning, of {total} comparisons {counts['better']} show that "
            f"it is beaten, {counts['worse']} that it is not, and {counts['not enough evidence']} "
            f"are not enough evidence."
        )
    texts = {
        group: ", ".join(
            f"{word} for {listed(names)}"
            if word == "not enough evidence"
            else f"{listed(names)} {'are' if len(names) > 1 else 'is'} {word}"
            for word, names in found.items()
        )
        for group, found in verdicts.items()
    }
    if len(set(texts.values())) == 1:
        where = f" (in {' and in '.join(texts)})" if len(texts) > 1 else ""
        return f"Against sequential fine-tuning{where}: {next(iter(texts.values()))}."
    return f"Against sequential fine-tuning: {'; '.join(f'{g}, {t}' for g, t in texts.items())}."


def _references_above(standings: Sequence[Standing]) -> str:
    """Reference points that reach at least as much as the best."""
    parts = [
        f"{name} {percent(value)} %" + (f" in {one.group}" if one.group != ALL else "")
        for one in standings
        for name, value in one.references_above
    ]
    if not parts:
        return ""
    return f"Reference points with a mean at least as high as the best: {listed(parts)}."


def _near_chance(cells: Sequence[CellSummary]) -> str:
    low = [
        f"{one.label} ({percent(one.final.mean)} %)"
        for one in cells
        if one.chance is not None and one.final.n > 1 and one.final.low <= one.chance
    ]
    return f"Not shown to be above chance: {listed(low, MOST_GROUPS)}." if low else ""
