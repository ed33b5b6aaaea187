"""What a study will cost, from what its trials cost; and afterwards, how far off that was."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study.actual_cost import happened
from study.ledger import Record
from study.planning import Cell, Plan, Role
from study.sections import Pruner
from study.trial_cost import Costs, TrialCost

# Keys of an estimate: name, unit, scale.
COMPARED: Mapping[str, tuple[str, str, float]] = MappingProxyType(
    {
        "trials": ("trials", "", 1),
        "trial_hours": ("hours of trials", " h", 1),
        "gpu_hours": ("GPU-hours", " h", 1),
        "wall_hours": ("wall time", " h", 1),
        "storage_bytes": ("checkpoints and ledger", " MB", 1e6),
        "device_bytes": ("device memory of a trial", " GB", 1e9),
    }
)


@dataclass(frozen=True)
class CellForecast:
    """Of one cell: trials, hours of search trials with and without pruning, of confirmations.

    Hours are None where nothing is known of the cost of a trial.
    """

    cell: Cell
    searches: int
    confirmations: int
    search_hours: float | None
    most_search_hours: float | None
    confirm_hours: float | None
    cost: TrialCost | None


@dataclass(frozen=True)
class Forecast:
    """What a whole study will cost. What is not known is None.

    `hours` of trials count on pruning, `most_hours` on none. `gpu` is what a trial takes of a
    GPU, `slots` how many trials run at a time. With several objectives more than one setting a
    cell may be confirmed: then it is what the study costs `at_least`.
    """

    cells: tuple[CellForecast, ...]
    trials: int
    hours: float | None
    most_hours: float | None
    wall_hours: float | None
    storage_bytes: float | None
    device_bytes: float | None
    gpu: float | None
    slots: int | None
    at_least: bool
    source: str

    @property
    def gpu_hours(self) -> float | None:
        """GPU-hours, with pruning."""
        return _times(self.hours, self.gpu)

    @property
    def most_gpu_hours(self) -> float | None:
        """GPU-hours, without pruning."""
        return _times(self.most_hours, self.gpu)

    def record(self) -> Record:
        """The ledger's record of it."""
        return {
            "kind": "estimate",
            "trials": self.trials,
            "trial_hours": self.hours,
            "most_trial_hours": self.most_hours,
            "gpu_hours": self.gpu_hours,
            "wall_hours": self.wall_hours,
            "storage_bytes": self.storage_bytes,
            "device_bytes": self.device_bytes,
            "source": self.source,
        }


def forecast(plan: Plan, costs: Costs, gpu: float | None, slots: int | None) -> Forecast:
    """Adds up what the trials of a plan cost.

    Args:
        plan: the study.
        costs: of a trial of each cell and role, where it is known.
        gpu: GPUs that a trial takes; None if that is not known.
        slots: trials that run at the same time; None if that is not known.
    """
    cells = tuple(_cell(plan, cell, costs) for cell in plan.cells)
    hours = _sum([one.search_hours for one in cells] + [one.confirm_hours for one in cells])
    most = _sum([one.most_search_hours for one in cells] + [one.confirm_hours for one in cells])
    storage = _sum([_bytes(one) for one in cells])
    device = [one.cost.device_bytes for one in cells if one.cost is not None]
    known = [one for one in device if one is not None]
    chain = max((_longest(one, costs) for one in cells), default=0.0)
    return Forecast(
        cells=cells,
        trials=sum(one.searches + one.confirmations for one in cells),
        hours=hours,
        most_hours=most,
        wall_hours=None if hours is None or slots is None else max(hours / slots, chain),
        storage_bytes=storage,
        device_bytes=max(known) if known else None,
        gpu=gpu,
        slots=slots,
        at_least=len(plan.spec.objective) > 1,
        source=" and ".join(dict.fromkeys(one.source for one in costs.values())) or "not measured",
    )


def tasks_left(pruner: Pruner, trials: int, tasks: int) -> tuple[float, ...]:
    """How many of a cell's search trials train each task, if their order is random.

    At a rung the k-th trial to arrive goes on if it is among the best ⌈k / reduction⌉ so far,
    for which its chance is ⌈k / reduction⌉ / k.
    """
    left = float(trials)
    found = []
    rung = pruner.first_rung if pruner.kind == "asha" else tasks
    for task in range(1, tasks + 1):
        found.append(left)
        if task == rung and task < tasks:
            arrivals = range(1, max(1, round(left)) + 1)
            left *= sum(math.ceil(k / pruner.reduction) / k for k in arrivals) / len(arrivals)
            rung *= pruner.reduction
    return tuple(found)


def search_trials(plan: Plan, cell: Cell) -> int:
    """Search trials of a cell: no more than its space has settings."""
    if not cell.searches:
        return 0
    settings = math.prod(_settings(one) for one in cell.space.values())
    return int(min(plan.spec.trials, settings))


def compare_lines(records: Sequence[Record]) -> list[str]:
    """The last estimate of a study beside what happened, and the error; none without one."""
    estimates = [one for one in records if one["kind"] == "estimate"]
    if not estimates:
        return []
    estimate = estimates[-1]
    took = happened(records)
    lines = [f"What was estimated (from {estimate['source']}) and what happened:"]
    for key, (name, unit, scale) in COMPARED.items():
        guess, real = estimate.get(key), took.get(key)
        if guess is None or not real:
            continue
        error = f"{(guess - real) / real:+.0%}"
        lines.append(f"  {name}: {guess / scale:.4g}{unit}, {real / scale:.4g}{unit} ({error})")
    return lines


def _cell(plan: Plan, cell: Cell, costs: Costs) -> CellForecast:
    trials = search_trials(plan, cell)
    search, confirm = costs.get((cell.id, "search")), costs.get((cell.id, "confirm"))
    pruned = most = 0.0 if not trials else None
    if trials and search is not None:
        left = tasks_left(plan.spec.pruner, trials, cell.search_tasks)
        most = trials * search.hours(cell.search_tasks)
        spared = sum((trials - at) * one for at, one in zip(left, search.seconds, strict=False))
        pruned = most - spared / 3600
    confirmed = None if confirm is None else len(cell.seeds) * confirm.hours(cell.tasks)
    return CellForecast(cell, trials, len(cell.seeds), pruned, most, confirmed, confirm)


def _longest(one: CellForecast, costs: Costs) -> float:
    """Hours of a cell that cannot run side by side: a whole search trial, then a confirmation."""
    roles: tuple[tuple[Role, int], ...] = (("confirm", one.cell.tasks),)
    if one.searches:
        roles += (("search", one.cell.search_tasks),)
    known = ((costs.get((one.cell.id, role)), tasks) for role, tasks in roles)
    return sum(cost.hours(tasks) for cost, tasks in known if cost is not None)


def _bytes(one: CellForecast) -> float | None:
    """Checkpoints of confirmations, which are kept, and all lines of the ledger."""
    if one.cost is None:
        return None
    records = (one.searches + one.confirmations) * one.cost.record_bytes
    return one.confirmations * one.cost.checkpoint_bytes + records


def _settings(distribution: Any) -> float:
    """How many values a distribution has."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None:
        return math.inf
    return math.floor((distribution.high - distribution.low) / distribution.step + 1e-9) + 1


def _sum(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) if len(known) == len(values) else None


def _times(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other
