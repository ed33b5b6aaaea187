"""The page's tables of cells, of pairs of cells, and of trials."""

from collections.abc import Sequence
from html import escape

from study.analysis import extras
from study.analysis.entities import StudyRecords, TrialRecord
from study.analysis.markup import bullets, paragraph, table
from study.analysis.scaling import Comparison
from study.analysis.summary import ALL, CellSummary, setting_text, text_rows
from study.analysis.wording import DASH, percent, verdict

SEARCHED = (
    "The search of each cell looks at a validation split cut from the training images; its best "
    "setting is then trained again on every seed and looked at on test images: only these "
    "confirmations stand behind the accuracies below."
)
GIVEN = "Every cell was trained on every seed and looked at on test images."
INTERVAL = "An interval is the 95 % t-interval of the mean over seeds."
COLUMNS = (
    "± is half the interval, sd the standard deviation over seeds. AAA: average anytime accuracy, "
    "the mean of the accuracies after each task. Forgetting: what a task lost since its best, mean "
    "over tasks. Plasticity: accuracy on a task right after learning it. Seconds are summed over "
    "all trials of the cell."
)
PAIRED = (
    "Paired t-test on the same seeds, Holm's correction over all {count} comparisons. Where the "
    "interval of the difference contains 0, or the corrected p is above 0.05, it says “not enough "
    "evidence”; so it does where the difference is the same on all seeds and not 0, since then "
    "nothing tells how much another seed would differ. Neither two reference points are compared "
    "with each other nor settings that differ in more than one key."
)
MOST_PAIRS = 24
"""More pairs of cells than this are folded away; comparisons.csv has all."""
MOST_CELLS, MOST_TRIALS = 200, 300
"""Rows of the tables on the page; all are in summary.csv and trials.csv."""


def results_section(cells: Sequence[CellSummary]) -> str:
    """What each cell came to."""
    chances = sorted({one.chance for one in cells if one.chance is not None})
    chance = " or ".join(f"{percent(one)} %" for one in chances)
    shown = cells[:MOST_CELLS]
    measured = SEARCHED if any(one.searched or one.tuned_in for one in cells) else GIVEN
    rows = [
        {**row, "cell": f"{row['cell']} *" if one.reference else row["cell"]}
        for one, row in zip(shown, text_rows(shown), strict=True)
    ]
    numbers = {
        name for name in (rows[0] if rows else {}) if name.endswith((", %", "points", ", s"))
    }
    note = f" Chance, over all classes: {chance}." if chance else ""
    cut = f" The first {MOST_CELLS} of {len(cells)} cells; all are in summary.csv."
    more = cut if len(cells) > MOST_CELLS else ""
    references = {one.method: one.reference for one in cells if one.reference}
    listed = [f"* {method}: a reference point, {text}" for method, text in references.items()]
    return (
        paragraph(f"{measured} {INTERVAL}{note} {COLUMNS}{more}")
        + table(rows, numbers)
        + (f'<div class="small">{bullets(listed)}</div>' if listed else "")
    )


def comparison_section(comparisons: Sequence[Comparison]) -> str:
    """All pairs of each group, with the verdict; "" where there is none."""
    if not comparisons:
        return ""
    several = any(one.group != ALL for one in comparisons)
    rows = [
        {
            **({"cells": one.group} if several else {}),
            "difference in final accuracy": f"{one.first} minus {one.second}",
            **extras.tested(one),
            "verdict": verdict(one),
        }
        for one in comparisons[:MOST_TRIALS]
    ]
    shown = sum(one.enough_evidence for one in comparisons)
    title = f"{len(comparisons)} pairs, of {shown} a difference is shown"
    listed = table(rows, set(extras.TESTED))
    if len(comparisons) > MOST_PAIRS:
        about = f"{title}; all are in comparisons.csv"
        listed = f"<details><summary>{about}</summary>{listed}</details>"
    count = PAIRED.format(count=len(comparisons))
    return f"<h2>Cells compared in pairs</h2>{paragraph(count)}{listed}"


def trial_section(study: StudyRecords, cells: Sequence[CellSummary]) -> str:
    """All trials, folded away."""
    labels = {one.cell: one.label for one in cells}
    rows = [
        {
            "trial": one.trial,
            "cell": labels.get(one.cell, one.cell),
            "role": one.role,
            "seed": str(one.seed),
            "setting": setting_text(one.searched),
            "status": one.status,
            "tasks seen": _seen(one),
            "last accuracy": _last_accuracy(one),
            "wall, s": f"{one.seconds:.0f}",
            "restarts": str(one.retries),
            "error": (one.error or "").strip()[-400:],
        }
        for one in study.trials[:MOST_TRIALS]
    ]
    numbers = {"seed", "tasks seen", "last accuracy", "wall, s", "restarts"}
    count = f"{len(study.trials)} trials"
    if len(study.trials) > MOST_TRIALS:
        count = f"The first {MOST_TRIALS} of {len(study.trials)} trials; all are in trials.csv"
    return (
        f"<h2>All trials</h2><details><summary>{escape(count)}</summary>"
        f"{table(rows, numbers)}</details>"
    )


def _seen(one: TrialRecord) -> str:
    seen = one.tasks[-1].task if one.tasks else 0
    return str(seen) if one.planned is None else f"{seen} of {one.planned}"


def _last_accuracy(one: TrialRecord) -> str:
    for split in ("test", "val"):
        value = one.final(f"{split}/accuracy")
        if value is not None:
            return f"{split} {percent(value)} %"
    return DASH
