"""Trials that failed, and why, or were started again."""

from collections import Counter

from study.evidence import count
from study.ledger import StudyRecords, TrialRecord
from study.report.section import Block, Bullets, Findings, Section, Table
from study.report.wording import setting_text

TITLE = "Trials that failed or were started again"
MOST = 10
"""Failed trials that are listed; the others are counted."""
REASONS = {
    "out_of_memory": "infeasible: out of device memory",
    "diverged": "diverged",
    "died": "its process died",
    "error": "error",
}


def section(findings: Findings) -> Section:
    """How many failed, by reason, and the first of them; nothing on the page where none did."""
    study = findings.study
    lines, lost = failure_lines(study), failed(study)
    reasons = {trial.trial: reason_text(trial) for trial in lost}
    labels = {cell.cell: cell.label for cell in findings.cells}
    rows = [
        {
            "cell": labels.get(trial.cell, trial.cell),
            "role": trial.role,
            "seed": str(trial.seed),
            "after task": str(trial.tasks[-1].task if trial.tasks else 0),
            "reason": reason_text(trial),
            "setting": setting_text(trial.searched, "\n"),
            "message": last_line(trial)[:300],
        }
        for trial in lost[:MOST]
    ]
    blocks: list[Block] = [Bullets(lines)] if lines else []
    if rows:
        blocks.append(Table(rows, ("seed", "after task")))
    data = {"failures": {"summary": lines, "trials": reasons}}
    return Section(TITLE, tuple(blocks), data)


def reason_text(trial: TrialRecord) -> str:
    """Why a trial failed, in words; ledgers of before there were reasons say "error"."""
    return REASONS.get(trial.reason or "error", trial.reason or "error")


def last_line(trial: TrialRecord) -> str:
    """What a trial said when it failed, without the traceback."""
    return (trial.error or "no message").strip().splitlines()[-1]


def failed(study: StudyRecords) -> tuple[TrialRecord, ...]:
    """All trials that failed, in the order they were launched."""
    return tuple(trial for trial in study.trials if trial.status == "failed")


def failure_lines(study: StudyRecords) -> list[str]:
    """How many trials failed, by reason, and how many were started again."""
    lines = []
    lost = failed(study)
    if lost:
        counts = Counter(map(reason_text, lost))
        kinds = "; ".join(f"{number} {reason}" for reason, number in counts.most_common())
        lines.append(f"{len(lost)} of {count(len(study.trials), 'trial')} failed: {kinds}.")
        if REASONS["out_of_memory"] in counts:
            lines.append(
                "Infeasible means that the setting needs more device memory than there is: the "
                "search counts it as not possible, not as bad."
            )
        if len(lost) > MOST:
            lines.append(f"The first {MOST} are listed; {len(lost) - MOST} more in trials.csv.")
    again = [trial for trial in study.trials if trial.retries]
    if again:
        completed = sum(trial.status == "completed" for trial in again)
        restarts = sum(trial.retries for trial in again)
        lines.append(
            f"{count(len(again), 'trial')} had to be started again, "
            f"{'once' if restarts == 1 else f'{restarts} times'} in all, and went on from the last "
            f"task there was a checkpoint of; {completed} of them completed."
        )
    return lines
