"""Whether cells that interfere more with old tasks forget more: one correlation a data set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.analysis import scaling
from study.analysis.correlation import INTERFERENCE, Correlation, spearman
from study.analysis.entities import TrialRecord
from study.analysis.evidence import LEAST_SEEDS, NotEnough, count

LEAST_CELLS = 5
EFFECT = "test/forgetting"


@dataclass(frozen=True)
class Cloud:
    """Completed trials on the same `data`, by the label of their cell.

    A trial is a point: the mean interference over its tasks, and its forgetting at the end.
    """

    data: str
    cells: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]


def cloud(data: str, cells: Mapping[str, Sequence[TrialRecord]]) -> Cloud:
    """The trials of `cells` (by label) that have both; a cell without any is left out."""
    found = {label: _points(trials, INTERFERENCE, EFFECT) for label, trials in cells.items()}
    return Cloud(data, tuple((label, tuple(own.values())) for label, own in found.items() if own))


def across_cells(
    cells: Mapping[str, Sequence[TrialRecord]],
    cause: str = INTERFERENCE,
    effect: str = EFFECT,
) -> Correlation | NotEnough:
    """Of the mean of `cause` over a trial's tasks with its final `effect`, over cells of one seed.

    Each seed ranks the cells anew and gives one rho; the interval is Student's over seeds. The
    trials of a cell are never counted as independent, and what is said holds for these cells: they
    differ in method and settings, which move both.

    Args:
        cells: completed confirmations on the same data, by cell.
        cause: a metric of each task.
        effect: a metric of the last task.
    """
    pairs: dict[int, dict[str, tuple[float, float]]] = {}
    for name, trials in cells.items():
        for seed, point in _points(trials, cause, effect).items():
            pairs.setdefault(seed, {})[name] = point
    known = {name for own in pairs.values() for name in own}
    if len(known) < LEAST_CELLS:
        return NotEnough(f"{count(len(known), 'cell')} with both, {LEAST_CELLS} needed")
    found = []
    for own in pairs.values():
        # A seed that misses a cell ranks others than the rest do.
        if set(own) == known:
            rho = spearman([one for one, _ in own.values()], [other for _, other in own.values()])
            found += [] if math.isnan(rho) else [rho]
    if len(found) < LEAST_SEEDS:
        return NotEnough(f"{count(len(found), 'seed')} with all cells, {LEAST_SEEDS} needed")
    over, p = scaling.paired(found)
    low, high = max(over.low, -1.0), min(over.high, 1.0)
    return Correlation(over.mean, low, high, over.n, p, "cells within a seed")


def _points(
    trials: Sequence[TrialRecord], cause: str, effect: str
) -> dict[int, tuple[float, float]]:
    """By seed, the mean of `cause` over tasks and the final `effect`, where a trial has both."""
    found = {}
    for one in trials:
        series, end = list(one.series(cause).values()), one.final(effect)
        if one.status == "completed" and series and end is not None:
            found[one.seed] = (math.fsum(series) / len(series), end)
    return found
