"""What the rank does at each number of tasks, and whether these change it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from study.analysis import curves
from study.analysis.trend_models import Array
from study.evidence import LEAST_SEEDS, Interval, NotEnough, count, intervals
from study.ledger import TASKS, StudyRecords, cell_label, varying_keys

RANK = "method.rank"
LESS_IS_BETTER = ("forgetting",)


@dataclass(frozen=True)
class RankTable:
    """`values`: rank → number of tasks → seed → the metric after the last task.

    Every rank has the other settings that its own search chose, where there was one. `label` names
    what the cells have in common.
    """

    label: str
    metric: str
    values: Mapping[int, Mapping[int, Mapping[int, float]]]
    higher_is_better: bool

    @property
    def ranks(self) -> tuple[int, ...]:
        """All ranks, rising."""
        return tuple(sorted(self.values))

    @property
    def tasks(self) -> tuple[int, ...]:
        """All numbers of tasks, rising."""
        return tuple(sorted({tasks for own in self.values.values() for tasks in own}))


def rank_tables(study: StudyRecords, metric: str = "test/accuracy") -> list[RankTable]:
    """One table for each group of cells with several ranks that the grid asked for.

    Cells that searched their rank are left out: their confirmations have one rank, chosen because
    it did well.
    """
    varying = varying_keys([cell.key for cell in study.cells])
    labels: dict[str, str] = {}
    tables: dict[str, dict[int, dict[int, dict[int, float]]]] = {}
    for cell in study.cells:
        rank = cell.key.get(RANK)
        if not isinstance(rank, int) or cell.tasks is None:
            continue
        rest = {key: value for key, value in cell.key.items() if key not in (RANK, TASKS)}
        group = json.dumps(rest, sort_keys=True)
        finals = curves.final_by_seed(study.confirmations(cell.cell), metric)
        if finals:
            labels[group] = cell_label(rest, varying)
            tables.setdefault(group, {}).setdefault(rank, {})[cell.tasks] = finals
    higher = not metric.endswith(LESS_IS_BETTER)
    return [
        RankTable(labels[group], metric, values, higher)
        for group, values in tables.items()
        if len(values) > 1
    ]


@dataclass(frozen=True)
class RankEffect:
    """The metric by rank at one number of tasks.

    `slope` is the change of the metric for each doubling of the rank, a straight line through each
    seed's own values, with its 95 % interval over the seeds that have all ranks. `best` is the
    rank with the best mean over these seeds, of equal ones the smallest.
    """

    tasks: int
    by_rank: tuple[tuple[int, Interval], ...]
    slope: Interval
    best: int | None


def rank_sensitivity(table: RankTable) -> list[RankEffect]:
    """One effect for each number of tasks; without common seeds its slope is NaN."""
    return [_effect(table, tasks) for tasks in table.tasks]


def doublings(ranks: tuple[int, ...]) -> list[float]:
    """Weights (ranks,) whose sum with a seed's values is its slope per doubling of the rank."""
    steps = np.log2(ranks) - np.mean(np.log2(ranks))
    return list((steps / (steps @ steps)).tolist())


def _effect(table: RankTable, tasks: int) -> RankEffect:
    own = {rank: table.values[rank][tasks] for rank in table.ranks if tasks in table.values[rank]}
    seeds = sorted(set.intersection(*(set(values) for values in own.values())))
    slopes, best = [], None
    if len(own) > 1:
        weights = doublings(tuple(own))
        slopes = [
            math.fsum(
                weight * values[seed] for weight, values in zip(weights, own.values(), strict=True)
            )
            for seed in seeds
        ]
    if seeds:
        sign = 1 if table.higher_is_better else -1
        best = max(own, key=lambda rank: (sign * math.fsum(own[rank][at] for at in seeds), -rank))
    scale = intervals.size(*(values.values() for values in own.values()))
    slope, _ = intervals.paired(slopes, scale)
    by_rank = tuple(
        (rank, intervals.interval(list(values.values()))) for rank, values in own.items()
    )
    return RankEffect(tasks, by_rank, slope, best)


@dataclass(frozen=True)
class BestRank:
    """The rank with the best mean at a number of tasks."""

    tasks: int
    rank: int


@dataclass(frozen=True)
class Interaction:
    """The table of rank × tasks, taken apart over `n` seeds that have all of it.

    `shares` are those of "rank", "tasks" and "interaction" in the variation of the cells' means,
    less what noise alone would give; NaN where nothing is left. `slope_change` is the change of
    the effect of doubling the rank for each doubling of the tasks, in the metric's unit, with its
    95 % interval over seeds. `best` are the ranks with the best means.
    """

    ranks: tuple[int, ...]
    tasks: tuple[int, ...]
    n: int
    shares: Mapping[str, float]
    slope_change: Interval
    best: tuple[BestRank, ...]


def interaction(table: RankTable) -> Interaction | NotEnough:
    """Takes a table apart; only the ranks and tasks that were fully crossed count."""
    ranks, tasks = table.ranks, table.tasks
    missing = [(r, t) for r, t in product(ranks, tasks) if not table.values[r].get(t)]
    if len(ranks) < 2 or len(tasks) < 2:
        return NotEnough(f"{count(len(ranks), 'rank')} by {count(len(tasks), 'number')} of tasks")
    if missing:
        return NotEnough(f"no result for rank {missing[0][0]} with {missing[0][1]} tasks")
    crossed = [set(table.values[r][t]) for r, t in product(ranks, tasks)]
    seeds = sorted(set.intersection(*crossed))
    if len(seeds) < LEAST_SEEDS:
        return NotEnough(f"{count(len(seeds), 'seed')} with all results, {LEAST_SEEDS} needed")
    values = np.array(
        [[[table.values[r][t][seed] for r in ranks] for t in tasks] for seed in seeds]
    )
    scale = intervals.size(values.flat)
    sign = 1 if table.higher_is_better else -1
    means = sign * values.mean(axis=0)
    best = tuple(BestRank(t, ranks[int(at)]) for t, at in zip(tasks, means.argmax(1), strict=True))
    steps = np.array(doublings(tasks)) if tasks[0] > 0 else np.full(len(tasks), math.nan)
    changes = np.einsum("str,t,r->s", values, steps, np.array(doublings(ranks)))
    return Interaction(
        ranks=ranks,
        tasks=tasks,
        n=len(seeds),
        shares=_shares(values),
        slope_change=intervals.paired(changes.tolist(), scale)[0],
        best=best,
    )


def _shares(values: Array) -> dict[str, float]:
    """Sums of squares of the cells' means less their expectation under noise, as shares."""
    seeds, tasks, ranks = values.shape
    means = values.mean(axis=0)
    by_task, by_rank = means.mean(axis=1), means.mean(axis=0)
    inner = means - by_task[:, None] - by_rank[None, :] + means.mean()
    profiles = values - values.mean(axis=2, keepdims=True)
    free = (seeds - 1) * tasks * (ranks - 1)
    noise = float(np.square(profiles - profiles.mean(axis=0)).sum()) / free
    # Numbers of tasks differ by the noise of whole splits as well, less what seeds share.
    level = values.mean(axis=2) - values.mean(axis=(1, 2))[:, None]
    level_free = (seeds - 1) * (tasks - 1)
    level_noise = ranks * float(np.square(level - level.mean(axis=0)).sum()) / level_free
    left = {
        "rank": seeds * tasks * float(by_rank.var()) * ranks - (ranks - 1) * noise,
        "tasks": seeds * ranks * float(by_task.var()) * tasks - (tasks - 1) * level_noise,
        "interaction": seeds * float(np.square(inner).sum()) - (tasks - 1) * (ranks - 1) * noise,
    }
    rounding = values.size * (intervals.ROUNDING * intervals.size(values.flat)) ** 2
    kept = {name: part if part > rounding else 0.0 for name, part in left.items()}
    total = sum(kept.values())
    return {name: part / total if total else math.nan for name, part in kept.items()}
