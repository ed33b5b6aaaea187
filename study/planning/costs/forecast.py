"""What a study will cost, from what its trials cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from study.ledger import Record, records
from study.planning import space
from study.planning.cells import Cell, Plan, Role
from study.planning.costs.trial_cost import Costs, TrialCost
from study.planning.sections import Pruner


@dataclass(frozen=True)
class CellForecast:
    """Of one cell: trials, hours of search trials with and without pruning, of confirmations.

    Of confirmations with the first seeds alone, and with all that may follow. Hours are None where
    nothing is known of the cost of a trial.
    """

    cell: Cell
    searches: int
    confirmations: int
    most_confirmations: int
    search_hours: float | None
    most_search_hours: float | None
    confirm_hours: float | None
    most_confirm_hours: float | None
    cost: TrialCost | None


@dataclass(frozen=True)
class Forecast:
    """What a whole study will cost. What is not known is None.

    `trials`, `hours` of trials and `wall_hours` count on pruning and on the first seeds alone; what
    is called most, on all seeds, and `most_hours` on no pruning. `gpu` is what a trial takes of a
    GPU, `slots` how many trials run at a time. With several objectives more than one setting a
    cell may be confirmed: then it is what the study costs `at_least`.
    """

    cells: tuple[CellForecast, ...]
    trials: int
    most_trials: int
    hours: float | None
    most_hours: float | None
    wall_hours: float | None
    most_wall_hours: float | None
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
        return records.estimate(
            source=self.source,
            trials=self.trials,
            trial_hours=self.hours,
            most_trial_hours=self.most_hours,
            gpu_hours=self.gpu_hours,
            wall_hours=self.wall_hours,
            storage_bytes=self.storage_bytes,
            device_bytes=self.device_bytes,
        )


def study_forecast(plan: Plan, costs: Costs, gpu: float | None, slots: int | None) -> Forecast:
    """Adds up what the trials of a plan cost.

    Args:
        plan: the study.
        costs: of a trial of each cell and role, where it is known.
        gpu: GPUs that a trial takes; None if that is not known.
        slots: trials that run at the same time; None if that is not known.
    """
    seen = {cell.id: cell.search_tasks for cell in plan.cells}
    # Confirmations are evaluated after every task.
    costs = {
        (cell, role): cost.evaluated(plan.spec.evaluated(role, seen[cell]))
        for (cell, role), cost in costs.items()
    }
    cells = tuple(_cell(plan, cell, costs) for cell in plan.cells)
    searching = [cell.search_hours for cell in cells]
    confirming = [cell.confirm_hours for cell in cells]
    longest = [cell.most_confirm_hours for cell in cells]
    hours = _sum(searching + confirming)
    device = [cell.cost.device_bytes for cell in cells if cell.cost is not None]
    sources = dict.fromkeys(cost.source for cost in costs.values())
    return Forecast(
        cells=cells,
        trials=sum(cell.searches + cell.confirmations for cell in cells),
        most_trials=sum(cell.searches + cell.most_confirmations for cell in cells),
        hours=hours,
        most_hours=_sum([cell.most_search_hours for cell in cells] + longest),
        wall_hours=_wall(hours, slots, [_longest(cell, costs, 1) for cell in cells]),
        most_wall_hours=_wall(
            _sum(searching + longest),
            slots,
            [_longest(cell, costs, 1 + len(cell.cell.further)) for cell in cells],
        ),
        storage_bytes=_sum([_bytes(cell) for cell in cells]),
        device_bytes=max((size for size in device if size is not None), default=None),
        gpu=gpu,
        slots=slots,
        at_least=len(plan.spec.objective) > 1,
        source=" and ".join(sources) or "not measured",
    )


def tasks_left(pruner: Pruner, trials: int, tasks: int) -> tuple[float, ...]:
    """How many of a cell's search trials train each task, if their order is random.

    At a rung the k-th trial to arrive goes on if it is among the best ⌈k / reduction⌉ so far,
    for which its chance is ⌈k / reduction⌉ / k.
    """
    left = float(trials)
    trained = []
    rungs = pruner.rungs(tasks)
    for task in range(1, tasks + 1):
        trained.append(left)
        if task in rungs:
            arrivals = range(1, max(1, round(left)) + 1)
            left *= sum(math.ceil(k / pruner.reduction) / k for k in arrivals) / len(arrivals)
    return tuple(trained)


def search_trials(plan: Plan, cell: Cell) -> int:
    """Search trials of a cell: no more than its space has settings."""
    if not cell.searches:
        return 0
    counts = [space.count(distribution) for distribution in cell.space.values()]
    return (
        plan.spec.trials if None in counts else min(plan.spec.trials, space.grid_size(cell.space))
    )


def _cell(plan: Plan, cell: Cell, costs: Costs) -> CellForecast:
    trials = search_trials(plan, cell)
    search, confirm = costs.get((cell.id, "search")), costs.get((cell.id, "confirm"))
    pruned = most = 0.0 if not trials else None
    if trials and search is not None:
        left = tasks_left(plan.spec.pruner, trials, cell.search_tasks)
        most = trials * search.hours(cell.search_tasks)
        spared = sum((trials - at) * task for at, task in zip(left, search.seconds, strict=False))
        pruned = most - spared / 3600
    least, all_seeds = len(cell.seeds), len(cell.seeds) + len(cell.further)
    hours = None if confirm is None else confirm.hours(cell.tasks)
    return CellForecast(
        cell=cell,
        searches=trials,
        confirmations=least,
        most_confirmations=all_seeds,
        search_hours=pruned,
        most_search_hours=most,
        confirm_hours=_times(hours, least),
        most_confirm_hours=_times(hours, all_seeds),
        cost=confirm,
    )


def _wall(hours: float | None, slots: int | None, chains: Sequence[float]) -> float | None:
    """Hours until all is done: those of all slots, or of what cannot run side by side."""
    return None if hours is None or slots is None else max(hours / slots, *chains, 0.0)


def _longest(known: CellForecast, costs: Costs, rounds: int) -> float:
    """Hours of a cell that cannot run side by side: a search trial, then a confirmation a round."""
    roles: tuple[tuple[Role, int, int], ...] = (("confirm", known.cell.tasks, rounds),)
    if known.searches:
        roles += (("search", known.cell.search_tasks, 1),)
    each = ((costs.get((known.cell.id, role)), tasks, times) for role, tasks, times in roles)
    return sum(times * cost.hours(tasks) for cost, tasks, times in each if cost is not None)


def _bytes(known: CellForecast) -> float | None:
    """Checkpoints of confirmations, which are kept, and all lines of the ledger."""
    if known.cost is None or known.cost.checkpoint_bytes is None:
        return None
    lines = (known.searches + known.most_confirmations) * known.cost.record_bytes
    return known.most_confirmations * known.cost.checkpoint_bytes + lines


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _times(hours: float | None, gpus: float | None) -> float | None:
    return None if hours is None or gpus is None else hours * gpus
