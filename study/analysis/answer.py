"""The answer in words, made from the numbers and from nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.analysis import scaling
from study.analysis.scaling import Comparison, Exhaustion
from study.analysis.summary import CellSummary
from study.analysis.wording import bounds, p_text, percent

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
