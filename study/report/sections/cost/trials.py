"""All trials, a row each, folded away."""

from study.ledger import TrialRecord
from study.report.section import Findings, Folded, Section, Table
from study.report.wording import DASH, percent, setting_text

TITLE = "All trials"
NUMBERS = ("seed", "tasks seen", "last accuracy", "wall, s", "restarts")
MOST_TRIALS = 300
"""Rows of the table on the page; all are in trials.csv."""


def section(findings: Findings) -> Section:
    """The table of trials."""
    trials = findings.study.trials
    labels = {cell.cell: cell.label for cell in findings.cells}
    rows = [
        {
            "trial": trial.trial,
            "cell": labels.get(trial.cell, trial.cell),
            "role": trial.role,
            "seed": str(trial.seed),
            "setting": setting_text(trial.searched),
            "status": trial.status,
            "tasks seen": f"{trial.tasks[-1].task if trial.tasks else 0}"
            + ("" if trial.planned is None else f" of {trial.planned}"),
            "last accuracy": _last_accuracy(trial),
            "wall, s": f"{trial.seconds:.0f}",
            "restarts": str(trial.retries),
            "error": (trial.error or "").strip()[-400:],
        }
        for trial in trials[:MOST_TRIALS]
    ]
    title = f"{len(trials)} trials"
    if len(trials) > MOST_TRIALS:
        title = f"The first {MOST_TRIALS} of {len(trials)} trials; all are in trials.csv"
    return Section(TITLE, (Folded(title, Table(rows, NUMBERS)),))


def _last_accuracy(trial: TrialRecord) -> str:
    known = ((split, trial.final(f"{split}/accuracy")) for split in ("test", "val"))
    return next((f"{split} {percent(x)} %" for split, x in known if x is not None), DASH)
