"""`--validate` and `--plan`: a study before it runs, for the person at the terminal."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from study.commands.tables import fitted, hours_between, hours_words, new_table, tell
from study.ledger import TUNED_ON, Record, cell_label, varying_keys
from study.planning import Plan, StudySpec
from study.planning.costs import (
    CellForecast,
    Forecast,
    Probed,
    past_costs,
    probe_costs,
    reference_costs,
    shared_among,
    study_forecast,
)
from study.system import say

ON_CPUS = "none, trials run on CPUs"
HINT = (
    "--probe measures the first tasks of each kind of trial, --past DIR takes them from the folder "
    "of a past study"
)
DEVICES = Path("/dev")


def describe(plan: Plan) -> list[str]:
    """The study's size, what is not as usual in how it searches, and what each cell searches."""
    spec = plan.spec
    head = (
        f"{spec.source} is valid: {len(plan.cells)} cells, up to {plan.search_trials} search "
        f"trials and {_counts(plan.confirmation_trials, plan.most_confirmation_trials)} "
        f"confirmation trials."
    )
    cells = []
    for cell in plan.cells:
        what = f"searches {', '.join(cell.space) or 'nothing'}"
        if cell.tuned_in is not None:
            what = f"takes the settings of {cell.tuned_in}"
        cells.append(f"  {cell.id}: {what}")
    compared = [f"  compares {contrast.name}" for contrast in plan.contrasts]
    return [head, *_unusual(spec), *cells, *compared]


def _unusual(spec: StudySpec) -> list[str]:
    search, budget, lines = spec.search, spec.budget, []
    if search.protocol == "first_k_tasks":
        lines.append(f"  searches see the first {search.first_tasks} tasks only")
    elif search.protocol == "transfer":
        lines.append(
            f"  searches use seed {spec.search_seed}, confirmations {list(spec.first_seeds)}: "
            f"settings are confirmed on data they were not chosen on"
        )
    if spec.further_seeds:
        first, most = len(spec.first_seeds), len(spec.first_seeds) + len(spec.further_seeds)
        lines.append(f"  {first} seeds a cell, and up to {most} while a contrast is undecided")
    if search.space != "none" and spec.every_task_for is not None:
        lines.append(
            f"  search trials are evaluated after every task, which {spec.every_task_for} needs"
        )
    if search.compare:
        lines.append("  whole_stream runs beside it, for comparison")
    if spec.sampler != StudySpec.model_fields["sampler"].default:
        lines.append(f"  sampler: {spec.sampler}")
    if len(spec.objective) > 1:
        both = ", ".join(f"{metric} {mode}" for metric, mode in spec.objective.items())
        lines.append(f"  every setting on a cell's front is confirmed: {both}")
    if search.warm_start is not None:
        lines.append(f"  searches begin with the best settings of {search.warm_start}")
    limits = [
        f"{value:g} {words}"
        for value, words in ((budget.gpu_hours, "GPU-hours"), (budget.wall_hours, "hours"))
        if value is not None
    ]
    if limits:
        lines.append(f"  a cell's search ends at {' or '.join(limits)}, if trials are left")
    return lines


def show_forecast(plan: Plan, folders: Sequence[Path], probe: bool, price: float | None) -> Record:
    """Prints what a study will cost and returns the ledger's record of it.

    `price` is in EUR for a GPU-hour.

    Raises:
        ValueError: if a folder is not that of a study.
    """
    found = make_forecast(plan, folders, probe)
    Console().print(_table(plan, found))
    for line in total_lines(plan, found, price):
        tell(line)
    return found.record()


def make_forecast(plan: Plan, folders: Sequence[Path], probe: bool) -> Forecast:
    """What a study will cost: from past studies, and where they say nothing from a probe.

    Without a probe, from the reference timings that come along.

    Raises:
        ValueError: if a folder is not that of a study.
    """
    costs, lines = past_costs(plan, folders) if folders else ({}, [])
    for line in lines:
        say(line)
    probed = probe_costs(plan, costs, say) if probe else Probed({})
    costs = {**costs, **probed.costs}
    gpus = len([path for path in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)])
    gpu = _share(plan, gpus, probed)
    if not probe:
        scaled, lines = reference_costs(plan, costs, gpu != 0)
        costs = {**costs, **scaled}
        for line in lines:
            tell(line)
    return study_forecast(plan, costs, gpu, machine_slots(plan, _cores(), gpus, gpu))


def machine_slots(plan: Plan, cores: int, gpus: int, gpu: float | None) -> int | None:
    """Trials that a machine runs at a time; None where it has no GPU for them, or fewer cores."""
    spec = plan.spec
    if gpu is None:
        return spec.max_concurrent
    fits = [int(cores / spec.resources.cpu + 1e-9)]
    if gpu > 0:
        fits.append(int(gpus / gpu + 1e-9))
    if not min(fits):
        # Meant for other machines.
        return spec.max_concurrent
    return min([*fits, *([] if spec.max_concurrent is None else [spec.max_concurrent])])


def total_lines(plan: Plan, found: Forecast, price: float | None) -> list[str]:
    """The totals of a forecast, one a line; of what is not known, one line for all."""
    least = "at least " if found.at_least else ""
    low, high = found.gpu_hours, found.most_gpu_hours
    prices = None
    if price is not None and low is not None and high is not None:
        money = _range(f"{low * price:.2f}", f"{high * price:.2f}")
        prices = f"{least}{money} EUR at {price:g} EUR a GPU-hour"
    device = ON_CPUS if found.gpu == 0 else _size(found.device_bytes)
    totals = {
        "trials": f"{least}{_counts(found.trials, found.most_trials)}",
        "hours of trials": _span(found.hours, found.most_hours, least),
        "GPU-hours": _gpu_hours(found, least),
        "wall time": _wall(found, least),
        "storage, checkpoints and ledger": _size(found.storage_bytes, least),
        "device memory of a trial": device,
        **({} if price is None else {"price": prices}),
    }
    lines = [f"{what}: {value}" for what, value in totals.items() if value is not None]
    if any(cell.search_hours != cell.most_search_hours for cell in found.cells):
        lines.append("from the pruning expected of the rungs to none at all")
    if found.trials != found.most_trials:
        lines.append("from the first seeds alone to all that contrasts may ask for")
    if found.at_least:
        lines.append("at least: with several objectives every setting on a front is confirmed")
    budget = plan.spec.budget
    if budget.gpu_hours is not None or budget.wall_hours is not None:
        lines.append("the budget may end a cell's search sooner")
    if found.gpu:
        lines.append("probes run alone: trials that share a GPU take longer")
    unknown = [what for what, value in totals.items() if value is None]
    if unknown:
        lines.append(f"not measured: {'; '.join(unknown)}. {HINT}")
    if any(cell.cost is not None for cell in found.cells):
        lines.append(f"measured: {found.source}")
    return lines


def _table(plan: Plan, found: Forecast) -> Table:
    """A line a cell; what is known of no cell has no column."""
    # What settings were tuned on is said by the cell above.
    varying = varying_keys([cell.key for cell in plan.cells]) - {TUNED_ON}
    caption = "trials: search + confirmation"
    known = any(row.cost is not None for row in found.cells)
    searched = any(row.searches for row in found.cells)
    if known and searched:
        caption += "; search: with pruning to without"
    columns = (*(("search",) if searched else ()), "confirm", "s/task") if known else ()
    table = new_table(f"{plan.spec.name}: {len(found.cells)} cells", caption)
    table.add_column("cell")
    for heading in ("tasks", "trials", *columns):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found.cells:
        cell = row.cell
        fewer = row.searches and cell.search_tasks != cell.tasks
        confirmations = _range(f"{row.confirmations}", f"{row.most_confirmations}", "–")
        values = [
            f"{cell.search_tasks}, {cell.tasks}" if fewer else f"{cell.tasks}",
            f"{row.searches} + {confirmations}",
        ]
        if known:
            values += _costs(row)[0 if searched else 1 :]
        table.add_row(fitted(cell_label(cell.key, varying)), *values)
    return table


def _costs(row: CellForecast) -> list[str]:
    """What is known of a cell's cost, empty where nothing is."""
    search = _short(row.search_hours, row.most_search_hours) if row.searches else "–"
    if row.cost is None:
        return ["", "", ""]
    seconds = sum(row.cost.seconds) / len(row.cost.seconds)
    return [search, _short(row.confirm_hours, row.most_confirm_hours), f"{seconds:.3g}"]


def _share(plan: Plan, gpus: int, probed: Probed) -> float | None:
    asked = plan.spec.resources.gpu
    if asked != "auto":
        return float(asked)
    if not gpus:
        return 0.0
    found = [kind for kind in probed.measured if kind.device_total is not None]
    return shared_among(found, max(cell.tasks for cell in plan.cells)) if found else None


def _cores() -> int:
    known = getattr(os, "sched_getaffinity", None)
    return len(known(0)) if known is not None else os.cpu_count() or 1


def _gpu_hours(found: Forecast, least: str) -> str | None:
    if found.gpu == 0:
        return ON_CPUS
    if found.gpu is None:
        return "not measured: resources.gpu auto is by --probe, or when the study starts"
    span = _span(found.gpu_hours, found.most_gpu_hours, least)
    return None if span is None else f"{span}, {found.gpu:g} of a GPU a trial"


def _wall(found: Forecast, least: str) -> str | None:
    if found.slots is None:
        return "unknown: this machine cannot run a trial; max_concurrent says how many others do"
    span = _span(found.wall_hours, found.most_wall_hours, least)
    return None if span is None else f"{span}, {found.slots} trials at a time"


def _span(low: float | None, high: float | None, least: str = "") -> str | None:
    if low is None or high is None:
        return None
    return least + _range(hours_words(low), hours_words(high))


def _short(low: float | None, high: float | None) -> str:
    """A span for a table, empty where it is not known."""
    if low is None or high is None:
        return ""
    return hours_between(low, high)


def _range(low: str, high: str, to: str = " to ") -> str:
    return low if low == high else f"{low}{to}{high}"


def _counts(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} (up to {most})"


def _size(size: float | None, least: str = "") -> str | None:
    if size is None:
        return None
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{least}{size / scale:.3g} {unit}"
    return f"{least}{size / 1e3:.3g} kB"
