"""Which layer of a cell ran out of free dimensions, and when, in words."""

from collections.abc import Sequence

from study.analysis.scaling import Exhaustion
from study.analysis.summary import CellSummary


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


def first_exhausted(one: CellSummary) -> str:
    """The first layer and task of all seeds, in short."""
    first = min(one.exhausted, key=lambda found: (found.task, found.layer))
    return f"{first.layer} after task {first.task}"


def _where(found: Sequence[Exhaustion], trials: int) -> str:
    first = min(found, key=lambda one: (one.task, one.layer))
    if trials == 1:
        return f"{first.layer} after task {first.task} (seed {first.seed})"
    text = f"{first.layer} after task {first.task}"
    if len(found) == trials and len({(one.layer, one.task) for one in found}) == 1:
        return f"{text} (on all {trials} seeds)"
    seeds = ", ".join(f"seed {one.seed}: {one.layer} after task {one.task}" for one in found)
    return f"{text} ({len(found)} of {trials} seeds; {seeds})"
