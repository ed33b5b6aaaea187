"""Warnings: what a reader must know before believing the tables."""

import json
from collections.abc import Sequence

from study.analysis.summary import ALL, CellSummary
from study.ledger import StudyRecords
from study.report.section import Block, Bullets, Findings, Section
from study.report.sections.cost.failures import REASONS, failed, last_line
from study.report.wording import exhaustion, first_exhausted, listed

TITLE = "Warnings"
MOST_EXHAUSTED = 4
"""More cells with exhausted layers than this share one sentence."""
MOST_LISTED = 12
BY_BATCH = {"method.vote": "batch", "method.reshape_leak": True}
"""Settings of released code under which a method looks at whole batches, also at test."""


def section(findings: Findings) -> Section:
    """All warnings; nothing on the page where there are none."""
    sentences = warnings(findings)
    blocks: tuple[Block, ...] = (Bullets(sentences, "warnings"),) if sentences else ()
    return Section(TITLE, blocks, {"warnings": sentences})


def warnings(findings: Findings) -> list[str]:
    """What a reader must know, one thing a sentence."""
    study, cells = findings.study, findings.cells
    sentences = []
    if study.status != "complete":
        running = sum(trial.status == "running" for trial in study.trials)
        sentences.append(
            f"This study is {study.status}. Trials without an end: {running}. Cells without a "
            f"completed confirmation: {len(cells) - len(findings.confirmed)} of {len(cells)}. "
            f"Everything here may still change."
        )
    sentences += study.warnings
    if study.unchecked:
        sentences.append(
            f"Not checksummed: {study.unchecked} records of the ledger, written by an earlier "
            f"release; a changed digit in them would not be noticed."
        )
    sentences += [
        f"{cell.label}: no result, since {study.failed_cells[cell.cell]}."
        for cell in cells
        if cell.cell in study.failed_cells
    ]
    sentences += _exhausted(cells)
    sentences += _failures(study, cells)
    sentences += _lost_seeds(study, cells)
    sentences += _by_batch(study, cells)
    sentences += _sessions(study)
    if few := [f"{cell.label} ({cell.final.n})" for cell in cells if cell.final.n < 2]:
        sentences.append(
            f"Confirmed on fewer than 2 seeds, so that there is no interval and nothing can be "
            f"concluded: {'; '.join(few)}."
        )
    sentences += _budgets(cells, findings.until_decided)
    return sentences


def _exhausted(cells: Sequence[CellSummary]) -> list[str]:
    """A sentence for each cell with an exhausted layer; many of them in one."""
    short = [cell for cell in cells if cell.exhausted]
    if len(short) <= MOST_EXHAUSTED:
        return [f"Exhausted: {exhaustion(cell)}" for cell in short]
    firsts = [f"{cell.label} ({first_exhausted(cell)})" for cell in short]
    return [
        f"Exhausted: in {len(short)} of {len(cells)} cells a layer was left with fewer free "
        f"dimensions than the rank; first: {listed(firsts, MOST_LISTED)}."
    ]


def _failures(study: StudyRecords, cells: Sequence[CellSummary]) -> list[str]:
    """One sentence for each kind of failure, with the cells it hit."""
    labels = {cell.cell: cell.label for cell in cells}
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
    lost: dict[str, list[str]] = {}
    for cell in cells:
        for trial in study.confirmations(cell.cell):
            if trial.status == "failed":
                lost.setdefault(cell.label, []).append(str(trial.seed))
    return [
        f"{label}: the confirmation failed on seed {', '.join(seeds)}, so that the mean is over "
        f"the other seeds only and may flatter this setting."
        for label, seeds in lost.items()
    ]


def _by_batch(study: StudyRecords, cells: Sequence[CellSummary]) -> list[str]:
    """Cells whose scores of an image depend on the other images of its batch, as released."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        for key, value in BY_BATCH.items():
            trials = study.confirmations(cell.cell)
            if any(trial.params.get(key) == value for trial in trials):
                found.setdefault(f"{key} {json.dumps(value).strip(chr(34))}", []).append(cell.label)
    return [
        f"Scores of an image depend on the other images of its batch with {key}: "
        f"{listed(labels, MOST_LISTED)}. Test images come in the order of tasks, so that a batch "
        f"tells its task."
        for key, labels in found.items()
    ]


def _sessions(study: StudyRecords) -> list[str]:
    """Whether a study that was resumed ran with other code or packages then."""
    sessions = study.sessions
    ran_with = {"code": [session.commit or "not known" for session in sessions]}
    for name in dict.fromkeys(name for session in sessions for name in session.versions):
        known = [session.versions.get(name, "none") for session in sessions]
        ran_with[f"versions of {name}"] = known
    return [
        f"The sessions of this study ran with different {what}: {', '.join(dict.fromkeys(known))}."
        for what, known in ran_with.items()
        if len(set(known)) > 1
    ]


def _budgets(cells: Sequence[CellSummary], until_decided: bool) -> list[str]:
    """What was unequal, each said once with the groups of cells that it holds for.

    That seeds until decided are more in some cells than in others is as it was asked for.
    """
    groups_of: dict[str, list[str]] = {}
    for group in dict.fromkeys(cell.group for cell in cells):
        for text in _unequal([cell for cell in cells if cell.group == group], until_decided):
            groups_of.setdefault(text, []).append(group)
    return [
        text[:1].upper() + text[1:] if groups == [ALL] else f"{listed(groups)}: {text}"
        for text, groups in groups_of.items()
    ]


def _unequal(members: Sequence[CellSummary], until_decided: bool) -> list[str]:
    sentences = []
    # A search that is not over yet has no winner and no budget to speak of.
    budgets = {cell.contender: cell.searched for cell in members if cell.search_value is not None}
    if len(set(budgets.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in budgets.items())
        sentences.append(f"unequal search budgets (trials that ended: {counts}).")
    as_given = [cell.contender for cell in members if cell.objective and cell.search_value is None]
    if budgets and as_given:
        sentences.append(
            f"settings of {', '.join(budgets)} were searched, those of "
            f"{', '.join(as_given)} were not, since they had nothing to search."
        )
    seeds = {cell.contender: sorted(cell.finals) for cell in members if cell.finals}
    if len({str(own) for own in seeds.values()}) > 1 and not until_decided:
        sentences.append(
            "methods were confirmed on different seeds ("
            + "; ".join(f"{name} {own}" for name, own in seeds.items())
            + "): only common seeds are compared."
        )
    return sentences
