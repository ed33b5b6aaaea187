"""What the subspace memory takes, against the branches that merging keeps from being stored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from study.analysis import scaling
from study.analysis.entities import TrialRecord
from study.analysis.evidence import NotEnough
from study.analysis.scaling import Interval

SUBSPACE, BRANCH = "memory/subspace_bytes", "memory/branch_bytes"
USED, FREE = "subspace/dim_used", "subspace/dim_free"
# Memories are kept in double precision.
NUMBER_BYTES = 8


@dataclass(frozen=True)
class OverheadAt:
    """Bytes after `task` tasks.

    `measured` is the subspace memory as it was, over trials, with the class statistics of a method
    that aligns its heads. `plain` is what bases of all used dimensions M alone would take, `dual`
    what the smaller one of M and its complement takes in each layer; None where layers were not
    recorded. `saved` are the branches of the earlier tasks, had each been kept beside the model as
    it was trained; `share` is `measured` by `saved`, None where nothing is saved yet.
    """

    task: int
    measured: Interval
    plain: float | None
    dual: float | None
    saved: float
    share: float | None


@dataclass(frozen=True)
class Overhead:
    """The memory over tasks. `dual_used` tells which of the two ran, None where it is not known.

    `break_even` is the first task from which on merging saves at least what the memory takes, up to
    the last task: None where it does not within these tasks.
    """

    rows: tuple[OverheadAt, ...]
    dual_used: bool | None
    break_even: int | None


def overhead(trials: Sequence[TrialRecord]) -> Overhead | NotEnough:
    """Of the completed trials of one setting, over the tasks that all of them have.

    Of a method that keeps its branches nothing is saved, and it has no memory to pay for: there is
    nothing to set against each other.
    """
    done = [one for one in trials if one.status == "completed" and one.tasks]
    taken = [one.series(SUBSPACE) for one in done]
    branches = [one.series(BRANCH) for one in done]
    tasks = sorted(set.intersection(*(set(one) for one in [*taken, *branches])) if done else ())
    if not tasks or not any(one[tasks[-1]] for one in taken):
        return NotEnough("no subspace memory was recorded")
    names = scaling.layers(done, USED)
    rows = []
    before = 0.0
    for task in tasks:
        measured = scaling.interval([one[task] for one in taken])
        plain, dual = _bases(done, names, task)
        share = measured.mean / before if before else None
        rows.append(OverheadAt(task, measured, plain, dual, before, share))
        # A branch that is merged is one that would have had to be kept from here on.
        before += math.fsum(one[task] for one in branches) / len(branches)
    kinds = {one.params.get("method.dual") for one in done}
    known = kinds.pop() if len(kinds) == 1 else None
    return Overhead(tuple(rows), known, _break_even(rows))


def _bases(
    trials: Sequence[TrialRecord], layers: Sequence[str], task: int
) -> tuple[float | None, float | None]:
    """Bytes of the bases of M, and of the smaller ones, as means over trials."""
    plain = dual = 0.0
    for one in trials:
        for layer in layers:
            used = one.series(f"{USED}/{layer}").get(task)
            free = one.series(f"{FREE}/{layer}").get(task)
            if used is None or free is None:
                return None, None
            plain += NUMBER_BYTES * (used + free) * used
            dual += NUMBER_BYTES * (used + free) * min(used, free)
    return (plain / len(trials), dual / len(trials)) if layers else (None, None)


def _break_even(rows: Sequence[OverheadAt]) -> int | None:
    found = None
    for one in reversed(rows):
        if one.saved < one.measured.mean:
            break
        found = one.task
    return found
