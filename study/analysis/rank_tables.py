"""Final values by rank, number of tasks and seed, of cells that differ in nothing else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from study.analysis import scaling
from study.analysis.entities import StudyRecords
from study.labels import TASKS, cell_label, varying_keys

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
        return tuple(sorted({tasks for one in self.values.values() for tasks in one}))


def rank_tables(study: StudyRecords, metric: str = "test/accuracy") -> list[RankTable]:
    """One table for each group of cells with several ranks that the grid asked for.

    Cells that searched their rank are left out: their confirmations have one rank, chosen because
    it did well.
    """
    varying = varying_keys([one.key for one in study.cells])
    labels: dict[str, str] = {}
    tables: dict[str, dict[int, dict[int, dict[int, float]]]] = {}
    for cell in study.cells:
        rank = cell.key.get(RANK)
        if not isinstance(rank, int) or cell.tasks is None:
            continue
        rest = {key: value for key, value in cell.key.items() if key not in (RANK, TASKS)}
        group = json.dumps(rest, sort_keys=True)
        finals = scaling.final_by_seed(study.confirmations(cell.cell), metric)
        if finals:
            labels[group] = cell_label(rest, varying)
            tables.setdefault(group, {}).setdefault(rank, {})[cell.tasks] = finals
    higher = not metric.endswith(LESS_IS_BETTER)
    return [
        RankTable(labels[group], metric, values, higher)
        for group, values in tables.items()
        if len(values) > 1
    ]
