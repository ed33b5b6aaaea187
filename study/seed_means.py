"""SeedMeans: every metric's mean over the seeds that confirmed a setting."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from study.ledger import Record


@dataclass
class _Sums:
    """Of one setting: how many trials, and by task and metric the sum and how many had it."""

    params: Mapping[str, Any]
    trials: int = 0
    tasks: dict[int, dict[str, tuple[float, int]]] = field(default_factory=dict)


class SeedMeans:
    """Adds up completed confirmation trials as they end, so that their records need not be kept."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[str, _Sums]] = {}

    def add(self, trial: Record, tasks: Mapping[int, Mapping[str, float]]) -> None:
        """Adds a trial, once, given its record and what it measured by task."""
        settings = self._cells.setdefault(trial["cell"], {})
        sums = settings.setdefault(canonical(trial["searched"]), _Sums(trial["params"]))
        sums.trials += 1
        for task, metrics in tasks.items():
            known = sums.tasks.setdefault(task, {})
            for key, value in metrics.items():
                total, count = known.get(key, (0.0, 0))
                known[key] = (total + value, count + 1)

    def trials(self, cell: str, setting: Mapping[str, Any]) -> int:
        """How many trials of a cell had the setting."""
        return sum(one.trials for one in self._fitting(cell, setting))

    def of(self, cell: str, setting: Mapping[str, Any]) -> dict[int, dict[str, float]]:
        """By task, the means of the metrics that all trials of a cell with the setting have."""
        fitting, trials = self._fitting(cell, setting), self.trials(cell, setting)
        means: dict[int, dict[str, float]] = {}
        for task in sorted({task for one in fitting for task in one.tasks}):
            found: dict[str, list[tuple[float, int]]] = {}
            for one in fitting:
                for key, entry in one.tasks.get(task, {}).items():
                    found.setdefault(key, []).append(entry)
            shared = {
                key: sum(total for total, _ in found[key]) / trials
                for key in sorted(found)
                if sum(count for _, count in found[key]) == trials
            }
            if shared:
                means[task] = shared
        return means

    def _fitting(self, cell: str, setting: Mapping[str, Any]) -> list[_Sums]:
        return [
            one
            for one in self._cells.get(cell, {}).values()
            if all(key in one.params and one.params[key] == setting[key] for key in setting)
        ]


def canonical(setting: Mapping[str, Any]) -> str:
    """A setting as text that is the same whatever the order of its keys."""
    return json.dumps(setting, sort_keys=True)
