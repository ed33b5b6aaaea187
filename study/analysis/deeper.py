"""What goes beyond the tables of cells: trends, forecasts, importance, rank, memory, cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from study.analysis.correlation import INTERFERENCE, Correlation, across_trials, within_trials
from study.analysis.cost_accuracy import CostPoint, cost_accuracy, data_of, data_words
from study.analysis.entities import StudyRecords, TrialRecord
from study.analysis.evidence import NotEnough
from study.analysis.exhaustion import LayerForecast, exhaustion_forecasts
from study.analysis.importance import Importance, importance
from study.analysis.interaction import Interaction, interaction
from study.analysis.overhead import Overhead, overhead
from study.analysis.pooled import Cloud, across_cells, cloud
from study.analysis.rank_sensitivity import RankEffect, rank_sensitivity
from study.analysis.rank_tables import RankTable, rank_tables
from study.analysis.summary import CellSummary
from study.analysis.task_scaling import CurveTrend, TaskCountTrend, curve_trends, task_count_trends

T = TypeVar("T")
Labelled: TypeAlias = tuple[tuple[str, T], ...]
"""Results of cells, each with the label of its cell."""
MOST_CELLS = 12
"""Cells that are looked at one by one: those with the most tasks, methods under study first."""
MOST_SEARCHES = 6
"""Searches whose keys are weighed, which takes a second each."""
AHEAD = 2.0
"""How far beyond the last task curves are continued, as a factor."""
STEPS = 24


@dataclass(frozen=True)
class RankStudy:
    """A table of ranks, what doubling the rank does in it, and whether tasks change that."""

    table: RankTable
    effects: tuple[RankEffect, ...]
    interaction: Interaction | NotEnough


@dataclass(frozen=True)
class Deeper:
    """All of it. What a study has no data for is empty.

    `cells` is the number of cells that could be looked at one by one, of which `looked_at` were;
    of `searches` the first `MOST_SEARCHES` were weighed.
    """

    trends: tuple[TaskCountTrend, ...]
    curves: Labelled[tuple[CurveTrend, ...]]
    space: Labelled[tuple[LayerForecast, ...] | NotEnough]
    importances: Labelled[Importance | NotEnough]
    ranks: tuple[RankStudy, ...]
    overheads: Labelled[Overhead | NotEnough]
    across: Labelled[Correlation | NotEnough]
    within: Labelled[Correlation | NotEnough]
    pooled: Labelled[Correlation | NotEnough]
    clouds: tuple[Cloud, ...]
    costs: tuple[CostPoint, ...]
    cells: int
    looked_at: int
    searches: int


def deeper(study: StudyRecords, cells: Sequence[CellSummary]) -> Deeper:
    """Works everything out, for at most `MOST_CELLS` cells one by one."""
    measured = [one for one in cells if one.confirmed]
    order = sorted(measured, key=lambda one: (bool(one.reference), -(one.tasks or 0)))
    chosen = [one for one in measured if one in order[:MOST_CELLS]]
    counts = [one.tasks for one in measured if one.tasks]
    tracked = [one for one in chosen if one.has_subspace]
    tables = [*rank_tables(study), *rank_tables(study, "test/forgetting")]

    def each(members: Sequence[CellSummary], found: Callable[[CellSummary], T]) -> Labelled[T]:
        return tuple((one.label, found(one)) for one in members)

    def forecasts(one: CellSummary) -> tuple[LayerForecast, ...] | NotEnough:
        layers = exhaustion_forecasts(one.confirmed)
        return layers if isinstance(layers, NotEnough) else tuple(layers)

    alike = _alike(measured)
    searched = [one for one in order if one.searched > 1 and one.tuned_in is None]
    return Deeper(
        trends=tuple(task_count_trends(study, _ahead(counts))) if len(set(counts)) > 1 else (),
        curves=each(
            chosen, lambda one: tuple(curve_trends(study, one.cell, _ahead([one.tasks or 1])))
        ),
        space=each(tracked, forecasts),
        importances=each(searched[:MOST_SEARCHES], lambda one: importance(study, one.cell)),
        ranks=tuple(
            RankStudy(table, tuple(rank_sensitivity(table)), interaction(table)) for table in tables
        ),
        overheads=each(tracked, lambda one: overhead(one.confirmed)),
        across=each(tracked, lambda one: across_trials(one.confirmed)),
        within=each(tracked, lambda one: within_trials(one.confirmed)),
        pooled=tuple(
            (f"{len(own)} cells, {data}", across_cells(own)) for data, own in alike.items()
        ),
        clouds=tuple(cloud(data, own) for data, own in alike.items()),
        costs=tuple(cost_accuracy(cells)),
        cells=len(measured),
        looked_at=len(chosen),
        searches=len(searched),
    )


def _alike(cells: Sequence[CellSummary]) -> dict[str, dict[str, Sequence[TrialRecord]]]:
    """By data set, in words, the trials of all its cells that measured interference, by label."""
    groups: dict[str, dict[str, Sequence[TrialRecord]]] = {}
    for one in cells:
        if any(trial.series(INTERFERENCE) for trial in one.confirmed):
            groups.setdefault(data_of(one), {})[one.label] = one.confirmed
    return {data_words(data, groups): own for data, own in groups.items()}


def _ahead(counts: Sequence[int]) -> list[float]:
    """Where a curve is drawn: even steps of a logarithmic axis, to some way beyond the data."""
    first, last = (1 if len(set(counts)) == 1 else min(counts)), AHEAD * max(counts)
    ratio = (last / first) ** (1 / STEPS)
    return sorted({float(round(first * ratio**step)) for step in range(STEPS + 1)})
