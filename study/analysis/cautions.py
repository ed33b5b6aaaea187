"""What a reader must know before believing the tables."""

from collections.abc import Sequence

from study.analysis.entities import StudyRecords
from study.analysis.exhausted_text import exhaustion, first_exhausted
from study.analysis.failures import REASONS, failed, last_line
from study.analysis.scaling import Comparison
from study.analysis.summary import ALL, CellSummary
from study.analysis.wording import listed

MOST_EXHAUSTED = 4
"""More cells with exhausted layers than this share one sentence."""
MOST_LISTED = 12


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
    found += _exhausted(cells)
    found += _failures(study, cells)
    found += _lost_seeds(study, cells)
    found += _sessions(study)
    few = [f"{one.label} ({one.final.n})" for one in cells if one.final.n < 2]
    if few:
        found.append(
            f"Confirmed on fewer than 2 seeds, so that there is no interval and nothing can be "
            f"concluded: {'; '.join(few)}."
        )
    found += _budgets(cells)
    if any(one.interval_decides and not one.enough_evidence for one in comparisons):
        found.append(
            "Some differences leave 0 out of their own interval but not after Holm's correction "
            f"for {len(comparisons)} comparisons: they are counted as not enough evidence."
        )
    return found


def _exhausted(cells: Sequence[CellSummary]) -> list[str]:
    """A sentence for each cell with an exhausted layer; many of them in one."""
    short = [one for one in cells if one.exhausted]
    if len(short) <= MOST_EXHAUSTED:
        return [f"Exhausted: {exhaustion(one)}" for one in short]
    firsts = [f"{one.label} ({first_exhausted(one)})" for one in short]
    return [
        f"Exhausted: in {len(short)} of {len(cells)} cells a layer was left with fewer free "
        f"dimensions than the rank; first: {listed(firsts, MOST_LISTED)}."
    ]


def _failures(study: StudyRecords, cells: Sequence[CellSummary]) -> list[str]:
    """One sentence for each kind of failure, with the cells it hit."""
    labels = {one.cell: one.label for one in cells}
    kinds: dict[str, list[str]] = {}
    for trial in failed(study):
        known = REASONS.get(trial.reason or "")
        # What says "error" says it in a message, which tells more.
        text = f"with “{last_line(trial)}”" if trial.reason in (None, "error") else f"({known})"
        kinds.setdefault(text, []).append(labels.get(trial.cell, trial.cell))
    return [
        f"{len(hit)} of {len(study.trials)} trials failed {text}: "
        + "; ".join(f"{label} ({hit.count(label)})" for label in dict.fromkeys(hit))
        + "."
        for text, hit in kinds.items()
    ]


def _lost_seeds(study: StudyRecords, cells: Sequence[CellSummary]) -> list[str]:
    """Cells whose mean is over the seeds that did not fail, which may flatter a setting."""
    found = []
    for one in cells:
        lost = [trial.seed for trial in study.confirmations(one.cell) if trial.status == "failed"]
        if lost:
            seeds = ", ".join(map(str, lost))
            found.append(
                f"{one.label}: the confirmation failed on seed {seeds}, so that the mean is over "
                f"the other seeds only and may flatter this setting."
            )
    return found


def _sessions(study: StudyRecords) -> list[str]:
    """Whether a study that was resumed ran with other code or packages then."""
    found = []
    commits = dict.fromkeys(one.commit or "not known" for one in study.sessions)
    if len(commits) > 1:
        found.append(f"The sessions of this study ran with different code: {', '.join(commits)}.")
    names = dict.fromkeys(name for one in study.sessions for name in one.versions)
    for name in names:
        versions = dict.fromkeys(one.versions.get(name, "none") for one in study.sessions)
        if len(versions) > 1:
            found.append(
                f"The sessions of this study ran with different versions of {name}: "
                f"{', '.join(versions)}."
            )
    return found


def _budgets(cells: Sequence[CellSummary]) -> list[str]:
    """What was unequal, each said once with the groups of cells that it holds for."""
    found: dict[str, list[str]] = {}
    for group in dict.fromkeys(one.group for one in cells):
        for text in _unequal([one for one in cells if one.group == group]):
            found.setdefault(text, []).append(group)
    return [
        text[:1].upper() + text[1:] if groups == [ALL] else f"{listed(groups)}: {text}"
        for text, groups in found.items()
    ]


def _unequal(members: Sequence[CellSummary]) -> list[str]:
    found = []
    # A search that is not over yet has no winner and no budget to speak of.
    budgets = {one.contender: one.searched for one in members if one.search_value is not None}
    if len(set(budgets.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in budgets.items())
        found.append(f"unequal search budgets (trials that ended: {counts}).")
    as_given = [one.contender for one in members if one.objective and one.search_value is None]
    if budgets and as_given:
        found.append(
            f"settings of {', '.join(budgets)} were searched, those of "
            f"{', '.join(as_given)} were not, since they had nothing to search."
        )
    seeds = {one.contender: sorted(one.finals) for one in members if one.finals}
    if len({str(one) for one in seeds.values()}) > 1:
        found.append(
            "methods were confirmed on different seeds ("
            + "; ".join(f"{name} {one}" for name, one in seeds.items())
            + "): only common seeds are compared."
        )
    return found
