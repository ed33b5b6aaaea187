"""Which trials failed and why, and which were started again."""

from collections import Counter
from collections.abc import Sequence

from study.analysis.entities import StudyRecords, TrialRecord

MOST = 10
"""Failed trials that are listed; the others are counted."""
REASONS = {
    "out_of_memory": "infeasible: out of device memory",
    "diverged": "diverged",
    "died": "its process died",
    "error": "error",
}


def reason_text(trial: TrialRecord) -> str:
    """Why a trial failed, in words; ledgers of before there were reasons say "error"."""
    return REASONS.get(trial.reason or "error", trial.reason or "error")


def last_line(trial: TrialRecord) -> str:
    """What a trial said when it failed, without the traceback."""
    lines = (trial.error or "no message").strip().splitlines()
    return lines[-1]


def failed(study: StudyRecords) -> tuple[TrialRecord, ...]:
    """All trials that failed, in the order they were launched."""
    return tuple(one for one in study.trials if one.status == "failed")


def failure_lines(study: StudyRecords) -> list[str]:
    """How many trials failed, by reason, and how many were started again."""
    lines = []
    found = failed(study)
    if found:
        counts = Counter(map(reason_text, found))
        kinds = "; ".join(f"{count} {reason}" for reason, count in counts.most_common())
        infeasible = REASONS["out_of_memory"]
        lines.append(f"{len(found)} of {_trials(len(study.trials))} failed: {kinds}.")
        if infeasible in counts:
            lines.append(
                "Infeasible means that the setting needs more device memory than there is: the "
                "search counts it as not possible, not as bad."
            )
        if len(found) > MOST:
            lines.append(f"The first {MOST} are listed; {len(found) - MOST} more in trials.csv.")
    again = [one for one in study.trials if one.retries]
    if again:
        completed = sum(one.status == "completed" for one in again)
        lines.append(
            f"{_trials(len(again))} had to be started again, {_restarts(again)} in all, and went "
            f"on from the last task there was a checkpoint of; {completed} of them completed."
        )
    return lines


def _restarts(trials: Sequence[TrialRecord]) -> str:
    count = sum(one.retries for one in trials)
    return "once" if count == 1 else f"{count} times"


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"
