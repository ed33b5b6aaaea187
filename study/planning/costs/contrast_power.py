"""What a study's seeds could show of each contrast, from past confirmations or from a pilot."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev

from study.evidence import seeds_for, smallest_difference
from study.ledger import OF_SEARCH, TASKS, CellRecord, ContrastRecord, StudyRecords, in_points
from study.planning.cells import Cell, Plan
from study.planning.costs.past_studies import SAME, read_past
from study.planning.costs.probe import last_metrics
from study.planning.costs.trial_cost import typical
from study.planning.sections import text


@dataclass(frozen=True)
class Spread:
    """The standard deviation of the differences of `pairs` seeds, in the unit of the margin."""

    std: float
    pairs: int
    source: str


@dataclass(frozen=True)
class ContrastPower:
    """What the seeds of a study could show of a contrast, with 80 % power.

    `smallest` is the smallest difference at the last look, `seeds` how many a difference of the
    margin would need in one look (None beyond what is counted); both are None where `spread` is
    not known or too little was seen to tell it.
    """

    contrast: ContrastRecord
    spread: Spread | None
    smallest: float | None = None
    seeds: int | None = None

    @property
    def known(self) -> bool:
        """Whether anything can be said."""
        return self.smallest is not None


def contrast_powers(
    plan: Plan, folders: Sequence[Path], pilot: int, tell: Callable[[str], None]
) -> list[ContrastPower]:
    """The power of each contrast of a plan, from past studies, and else from a pilot.

    Args:
        plan: the study.
        folders: those of past studies.
        pilot: confirmations of each cell that they say nothing of, on validation images; 0: none.
        tell: takes a line on each cell of the pilot.

    Raises:
        ValueError: if a folder is not that of a study.
    """
    past = [read_past(folder) for folder in folders]
    cells = {cell.id: cell for cell in plan.cells}
    spreads = {contrast.name: _past_spread(contrast, cells, past) for contrast in plan.contrasts}
    asked = [contrast for contrast in plan.contrasts if spreads[contrast.name] is None]
    if pilot and asked:
        spreads |= _pilot_spreads(plan, asked, pilot, tell)
    return [_power(plan, contrast, spreads[contrast.name]) for contrast in plan.contrasts]


def _power(plan: Plan, contrast: ContrastRecord, spread: Spread | None) -> ContrastPower:
    # Pairs that are all alike show no spread: nothing says how much another seed would differ.
    if spread is None or not spread.std > 0:
        return ContrastPower(contrast, spread)
    design = plan.design
    seeds = seeds_for(plan.spec.margin, spread.std, design.contrasts)
    return ContrastPower(contrast, spread, smallest_difference(design, spread.std), seeds)


def _spread(
    metric: str, first: Mapping[int, float], second: Mapping[int, float], source: str
) -> Spread | None:
    """That of the seeds that both have a finite value for; None with fewer than two."""
    values = [
        in_points(metric, first[seed]) - in_points(metric, second[seed])
        for seed in first
        if seed in second
    ]
    finite = [value for value in values if math.isfinite(value)]
    return Spread(stdev(finite), len(finite), source) if len(finite) > 1 else None


def _past_spread(
    contrast: ContrastRecord, cells: Mapping[str, Cell], past: Sequence[StudyRecords]
) -> Spread | None:
    """That of confirmations of the same kind: of the nearest numbers of tasks, then most pairs."""
    first, second = cells[contrast.first], cells[contrast.second]
    found = [
        (_distance(ours, first) + _distance(theirs, second), -spread.pairs, spread)
        for study in past
        for ours in _alike(study, first)
        for theirs in _alike(study, second)
        if (
            spread := _spread(
                contrast.metric,
                _confirmed(study, ours, contrast.metric),
                _confirmed(study, theirs, contrast.metric),
                f"past confirmations of {_tasks(ours, theirs)} tasks",
            )
        )
    ]
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def _alike(study: StudyRecords, cell: Cell) -> Iterator[CellRecord]:
    """The cells of a past study whose confirmations agree with a cell's but for their tasks."""
    params = typical(cell, "confirm")
    own = (key for key in cell.key if key != TASKS and not key.startswith(OF_SEARCH))
    wanted = {key: text(params[key]) for key in (*SAME, *own)}
    for record in study.cells:
        trials = study.confirmations(record.cell)
        if trials and all(text(trials[0].params.get(key)) == wanted[key] for key in wanted):
            yield record


def _confirmed(study: StudyRecords, cell: CellRecord, metric: str) -> dict[int, float]:
    """Seed → metric after the last task."""
    values = {
        trial.seed: trial.final(metric)
        for trial in study.confirmations(cell.cell)
        if trial.status == "completed"
    }
    return {seed: value for seed, value in values.items() if value is not None}


def _distance(record: CellRecord, cell: Cell) -> float:
    return abs(math.log((record.tasks or 1) / cell.tasks))


def _tasks(*cells: CellRecord) -> str:
    return " and ".join(dict.fromkeys(str(cell.tasks) for cell in cells))


def _pilot_spreads(
    plan: Plan, contrasts: Sequence[ContrastRecord], pilot: int, tell: Callable[[str], None]
) -> dict[str, Spread | None]:
    """That of the defaults of each cell on the first seeds, whole streams, validation images."""
    asked = dict.fromkeys(cell for pair in contrasts for cell in (pair.first, pair.second))
    cells = {cell.id: cell for cell in plan.cells}
    measured: dict[str, dict[int, Mapping[str, float]]] = {}
    resources = plan.spec.resources
    for number, name in enumerate(asked, start=1):
        results = measured[name] = {}
        problem = ""
        for seed in range(pilot):
            params = typical(cells[name], "search", seed)
            result = last_metrics(params, resources.cpu, resources.gpu != 0)
            if isinstance(result, str):
                problem = f", {result}"
            else:
                results[seed] = result
        tell(f"pilot {number}/{len(asked)}: {name}: {len(results)} of {pilot} trials{problem}")
    return {
        contrast.name: _spread(
            contrast.metric,
            _of_pilot(measured[contrast.first], contrast.metric),
            _of_pilot(measured[contrast.second], contrast.metric),
            "a pilot on validation images",
        )
        for contrast in contrasts
    }


def _of_pilot(results: Mapping[int, Mapping[str, float]], metric: str) -> dict[int, float]:
    name = metric.replace("test/", "val/", 1)
    return {seed: metrics[name] for seed, metrics in results.items() if name in metrics}
