"""Memory: what the subspace takes, against the branches that merging keeps from being stored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from study.analysis.curves import FREE, USED, layers
from study.evidence import Interval, NotEnough, interval
from study.ledger import TrialRecord
from study.report.figures.plots import grid_of, names_or_legend
from study.report.figures.style import GREY, GRID, MOST_PANELS, OKABE_ITO, line_style, ticks
from study.report.section import Findings, Picture, Section, Table
from study.report.wording import DASH, MEGA

TITLE = "Memory"
SUBSPACE, BRANCH = "memory/subspace_bytes", "memory/branch_bytes"
# Memories are kept in double precision.
NUMBER_BYTES = 8
OVERHEAD = (
    "What the subspace memory takes, beside the branches of earlier tasks that would have to be "
    "kept if they were not merged into the weights (where the weight itself is trained inside the "
    "span, a branch is as large as the weight); mean over seeds, band = 95 % t-interval. "
    "Dotted: from this task on merging saves at least what the memory takes."
)


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


def section(findings: Findings) -> Section:
    """The memory against the branches saved; nothing on the page without a subspace memory."""
    overheads = [
        (cell.label, overhead(cell.confirmed)) for cell in findings.looked_at if cell.has_subspace
    ]
    data = {"deeper": {"overheads": overheads}}
    known = {label: own for label, own in overheads if isinstance(own, Overhead)}
    if not known:
        return Section(TITLE, (), data)
    most = max(own.rows[-1].task for own in known.values())
    longest = [(label, own) for label, own in known.items() if own.rows[-1].task == most]
    draw = partial(memory_over_tasks, dict(longest[:MOST_PANELS]))
    rows = [_row(label, own) for label, own in known.items()]
    numbers = {*rows[0]} - {"cell", "keeps"}
    return Section(TITLE, (Picture("", OVERHEAD, draw), Table(rows, numbers)), data)


def overhead(trials: Sequence[TrialRecord]) -> Overhead | NotEnough:
    """Of the completed trials of one setting, over the tasks that all of them have.

    Of a method that keeps its branches nothing is saved, and it has no memory to pay for: there is
    nothing to set against each other.
    """
    done = [trial for trial in trials if trial.status == "completed" and trial.tasks]
    taken = [trial.series(SUBSPACE) for trial in done]
    branches = [trial.series(BRANCH) for trial in done]
    tasks = sorted(set.intersection(*map(set, [*taken, *branches])) if done else ())
    if not tasks or not any(series[tasks[-1]] for series in taken):
        return NotEnough("no subspace memory was recorded")
    names = layers(done, USED)
    rows = []
    before = 0.0
    for task in tasks:
        measured = interval([series[task] for series in taken])
        plain, dual = _bases(done, names, task)
        share = measured.mean / before if before else None
        rows.append(OverheadAt(task, measured, plain, dual, before, share))
        # A branch that is merged is one that would have had to be kept from here on.
        before += math.fsum(series[task] for series in branches) / len(branches)
    kinds = {trial.params.get("method.dual") for trial in done}
    return Overhead(tuple(rows), kinds.pop() if len(kinds) == 1 else None, _break_even(rows))


def _bases(
    trials: Sequence[TrialRecord], names: Sequence[str], task: int
) -> tuple[float | None, float | None]:
    """Bytes of the bases of M, and of the smaller ones, as means over trials."""
    plain = dual = 0.0
    for trial in trials:
        for layer in names:
            used = trial.series(f"{USED}/{layer}").get(task)
            free = trial.series(f"{FREE}/{layer}").get(task)
            if used is None or free is None:
                return None, None
            plain += NUMBER_BYTES * (used + free) * used
            dual += NUMBER_BYTES * (used + free) * min(used, free)
    return (plain / len(trials), dual / len(trials)) if names else (None, None)


def _break_even(rows: Sequence[OverheadAt]) -> int | None:
    short = max((row.task for row in rows if row.saved < row.measured.mean), default=0)
    return next((row.task for row in rows if row.task > short), None)


def _row(label: str, own: Overhead) -> dict[str, str]:
    kind = {None: "not known", True: "the smaller basis (dual)", False: "the used one"}
    last = own.rows[-1]
    return {
        "cell": label,
        "after task": str(last.task),
        "memory, MB": _megabytes(last.measured.mean),
        "used basis alone, MB": _megabytes(last.plain),
        "smaller basis, MB": _megabytes(last.dual),
        "keeps": kind[own.dual_used],
        "branches saved, MB": _megabytes(last.saved),
        "memory by saved": DASH if last.share is None else f"{last.share:.3g}",
        "saves from task": DASH if own.break_even is None else str(own.break_even),
        "trials": str(last.measured.n),
    }


def _megabytes(value: float | None) -> str:
    return DASH if value is None else f"{value / MEGA:.3g}"


def memory_over_tasks(cells: Mapping[str, Overhead]) -> Figure:
    """What the memory takes, and what it would take to keep the branches, in MB."""
    figure, grid = grid_of(len(cells), across=2, height=3.4)
    for axes, (label, own) in zip(grid, cells.items(), strict=True):
        tasks = [row.task for row in own.rows]
        every = max(1, len(tasks) // 8)
        lines = {
            "subspace memory, measured": [row.measured.mean / MEGA for row in own.rows],
            "branches that merging saves": [row.saved / MEGA for row in own.rows],
        }
        for place, (name, values) in enumerate(lines.items()):
            axes.plot(tasks, values, label=name, **(line_style(place) | {"markevery": every}))
        known = [row for row in own.rows if row.measured.n > 1]
        axes.fill_between(
            [row.task for row in known],
            [row.measured.low / MEGA for row in known],
            [row.measured.high / MEGA for row in known],
            color=OKABE_ITO[0],
            alpha=0.15,
            linewidth=0,
        )
        if own.break_even is not None:
            axes.axvline(own.break_even, color=GREY, linewidth=1, linestyle=":")
        axes.set(title=label, xlabel="tasks seen", ylabel="MB")
        axes.set_ylim(bottom=0)
        axes.set_xticks(ticks(max(tasks), 6))
        axes.grid(axis="y", **GRID)
    names_or_legend(figure, columns=2)
    return figure
