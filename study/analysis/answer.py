"""The answer and the warnings in words, made from the numbers and from nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.analysis import scaling
from study.analysis.records import StudyRecords
from study.analysis.scaling import Comparison, Exhaustion
from study.analysis.summary import CellSummary, percent
from study.analysis.wording import bounds, p_text

BASELINE = "sequential"
"""Plain fine-tuning, task after task: what a method must beat to be worth its name."""


@dataclass(frozen=True)
class Answer:
    """What can be said of one group of cells, sentence by sentence."""

    group: str
    sentences: tuple[str, ...]


def answers(cells: Sequence[CellSummary], comparisons: Sequence[Comparison]) -> list[Answer]:
    """The short answer, group by group; then, if tasks vary, what more tasks do to a method."""
    groups = list(dict.fromkeys(one.group for one in cells))
    found = []
    for group in groups:
        members = [one for one in cells if one.group == group]
        pairs = [one for one in comparisons if one.group == group]
        found.append(Answer(group, tuple(_group_sentences(members, pairs))))
    trend = _trend(cells)
    return [*found, Answer("More tasks", tuple(trend))] if trend else found


def exhaustion(one: CellSummary) -> str:
    """Which layer of a cell ran out of free dimensions first, and when."""
    rank = str(max((trial.params.get("method.rank") or 0 for trial in one.confirmed), default=0))
    if any(trial.params.get("method.rank_steps") for trial in one.confirmed):
        rank += " at first, then as in method.rank_steps"
    if not one.exhausted:
        return (
            f"{one.label}: every layer kept at least as many free dimensions as the rank "
            f"({rank}) through all tasks."
        )
    text = (
        f"{one.label}: fewer free dimensions than the rank ({rank}) first in "
        f"{_where(one.exhausted, len(one.confirmed))}"
    )
    if one.empty:
        return f"{text}; none left at all first in {_where(one.empty, len(one.confirmed))}."
    return f"{text}; no layer was left with none at all."


def warnings(
    study: StudyRecords, cells: Sequence[CellSummary], comparisons: Sequence[Comparison]
) -> list[str]:
    """What a reader must know before believing the tables."""
    found = []
    if study.status != "complete":
        open_ones = sum(one.status == "running" for one in study.trials)
        found.append(
            f"This study is {study.status}. Trials without an end: {open_ones}. Cells without a "
            f"completed confirmation: {sum(not one.confirmed for one in cells)} of {len(cells)}. "
            f"Everything here may still change."
        )
    found += [
        f"{one.label}: no result, since {study.failed_cells[one.cell]}."
        for one in cells
        if one.cell in study.failed_cells
    ]
    found += [f"Exhausted: {exhaustion(one)}" for one in cells if one.exhausted]
    found += _failures(study, cells)
    few = [f"{one.label} ({one.final.n})" for one in cells if one.final.n < 2]
    if few:
        found.append(
            f"Confirmed on fewer than 2 seeds, so that there is no interval and nothing can be "
            f"concluded: {'; '.join(few)}."
        )
    for group in dict.fromkeys(one.group for one in cells):
        members = [one for one in cells if one.group == group]
        found += _budget_warnings(group, members)
    if any(one.interval_decides and not one.enough_evidence for one in comparisons):
        found.append(
            "Some differences leave 0 out of their own interval but not after Holm's correction "
            f"for {len(comparisons)} comparisons: they are counted as not enough evidence."
        )
    return found


def _group_sentences(members: Sequence[CellSummary], pairs: Sequence[Comparison]) -> list[str]:
    measured = [one for one in members if one.final.n]
    if not measured:
        return ["No cell has been confirmed on test images yet: there is no answer."]
    studied = [one for one in measured if not one.reference] or measured
    best = max(studied, key=lambda one: one.final.mean)
    level = best.final.mean - 1e-9
    names = " and ".join(one.method for one in studied if one.final.mean >= level)
    chance = "" if best.chance is None else f"; chance is {percent(best.chance)} %"
    found = [
        f"Highest mean final accuracy: {names} with {percent(best.final.mean)} % "
        f"({bounds(best.final)}){chance}."
    ]
    above = [one for one in measured if one not in studied and one.final.mean >= level]
    found += [
        f"The reference point {one.method} ({one.reference}) reaches {percent(one.final.mean)} % "
        f"({bounds(one.final)})."
        for one in above
    ]
    missing = [one.method for one in members if not one.final.n]
    if missing:
        found.append(f"Not confirmed yet, and left out here: {', '.join(missing)}.")
    for one in studied:
        if one.method != best.method and not best.reference:
            found.append(_against(best.method, one.method, pairs, "is better than"))
    for one in studied:
        if one.method != BASELINE:
            found.append(_against(one.method, BASELINE, pairs, "beats sequential fine-tuning"))
    others = [one for one in measured if one.reference and one.method != BASELINE]
    for one in studied:
        found.append(_beside(one.method, [other.method for other in others], pairs))
    for one in measured:
        if one.chance is not None and one.final.n > 1 and one.final.low <= one.chance:
            found.append(
                f"{one.method} is not shown to be above chance: {percent(one.final.mean)} % "
                f"({bounds(one.final)})."
            )
    return [one for one in found if one]


def _against(method: str, other: str, pairs: Sequence[Comparison], claim: str) -> str:
    """Whether `method` has a higher final accuracy than `other`, plainly; "" if never compared."""
    pair = next((one for one in pairs if {one.first, one.second} == {method, other}), None)
    if pair is None:
        return ""
    claim = claim if other == BASELINE else f"{claim} {other}"
    sign = 1 if pair.first == method else -1
    mean = sign * pair.difference.mean
    low, high = sorted((sign * pair.difference.low, sign * pair.difference.high))
    if pair.difference.n < 2:
        return f"Whether {method} {claim}: not enough evidence ({pair.difference.n} common seeds)."
    numbers = (
        f"difference {percent(mean)} points, 95 % interval {percent(low)} to {percent(high)}, "
        f"paired over {pair.difference.n} seeds, Holm's p {p_text(pair.p_holm)}"
    )
    if not pair.enough_evidence:
        return f"Not enough evidence that {method} {claim}: {numbers}."
    if mean > 0:
        return f"{method} {claim}: {numbers}."
    if other == BASELINE:
        return f"{method} does NOT beat sequential fine-tuning, it is worse: {numbers}."
    return f"{method} is worse than {other}: {numbers}."


def _beside(method: str, references: Sequence[str], pairs: Sequence[Comparison]) -> str:
    """A method beside all other reference points in one sentence; "" where there are none."""
    parts = []
    for other in references:
        pair = next((one for one in pairs if {one.first, one.second} == {method, other}), None)
        if pair is None:
            continue
        sign = 1 if pair.first == method else -1
        mean = sign * pair.difference.mean
        word = "not enough evidence"
        if pair.enough_evidence:
            word = "better" if mean > 0 else "worse"
        parts.append(f"{other} {'+' if mean > 0 else ''}{percent(mean)} ({word})")
    if not parts:
        return ""
    return f"{method} minus other reference points, in points: {'; '.join(parts)}."


def _trend(cells: Sequence[CellSummary]) -> list[str]:
    """Final accuracy at the most tasks against the fewest, per method, where only tasks vary."""
    found = []
    for method in dict.fromkeys(one.method for one in cells):
        own = {one.tasks: one for one in cells if one.method == method and one.tasks and one.finals}
        if len(own) < 2 or len(own) != sum(one.method == method for one in cells):
            continue
        few, many = own[min(own, key=int)], own[max(own, key=int)]
        seeds = sorted(set(few.finals) & set(many.finals))
        change = scaling.interval([many.finals[seed] - few.finals[seed] for seed in seeds])
        if not seeds:
            continue
        found.append(
            f"{method}: from {few.tasks} to {many.tasks} tasks final accuracy changes by "
            f"{percent(change.mean)} points ({bounds(change)})"
            + ("." if change.low > 0 or change.high < 0 else ": not enough evidence of a change.")
        )
    return found


def _where(found: Sequence[Exhaustion], trials: int) -> str:
    first = min(found, key=lambda one: (one.task, one.layer))
    if trials == 1:
        return f"{first.layer} after task {first.task} (seed {first.seed})"
    text = f"{first.layer} after task {first.task}"
    if len(found) == trials and len({(one.layer, one.task) for one in found}) == 1:
        return f"{text} (on all {trials} seeds)"
    seeds = ", ".join(f"seed {one.seed}: {one.layer} after task {one.task}" for one in found)
    return f"{text} ({len(found)} of {trials} seeds; {seeds})"


def _failures(study: StudyRecords, cells: Sequence[CellSummary]) -> list[str]:
    """One sentence for each kind of failure, with the cells it hit."""
    labels = {one.cell: one.label for one in cells}
    kinds: dict[str, list[str]] = {}
    for trial in study.trials:
        if trial.status == "failed":
            lines = (trial.error or "no message").strip().splitlines()
            kinds.setdefault(lines[-1], []).append(labels.get(trial.cell, trial.cell))
    return [
        f"{len(hit)} of {len(study.trials)} trials failed with “{error}”: "
        + "; ".join(f"{label} ({hit.count(label)})" for label in dict.fromkeys(hit))
        + "."
        for error, hit in kinds.items()
    ]


def _budget_warnings(group: str, members: Sequence[CellSummary]) -> list[str]:
    found = []
    # A search that is not over yet has no winner and no budget to speak of.
    budgets = {one.method: one.searched for one in members if one.search_value is not None}
    if len(set(budgets.values())) > 1:
        counts = ", ".join(f"{method} {count}" for method, count in budgets.items())
        found.append(f"{group}: unequal search budgets (trials that ended: {counts}).")
    as_given = [one.method for one in members if one.objective and one.search_value is None]
    if budgets and as_given:
        found.append(
            f"{group}: settings of {', '.join(budgets)} were searched, those of "
            f"{', '.join(as_given)} were not, since they had nothing to search."
        )
    seeds = {one.method: sorted(one.finals) for one in members if one.finals}
    if len({str(one) for one in seeds.values()}) > 1:
        found.append(
            f"{group}: methods were confirmed on different seeds ("
            + "; ".join(f"{method} {one}" for method, one in seeds.items())
            + "): only common seeds are compared."
        )
    return found
