"""What trials cost, from the ledgers of past studies: those of the same kind."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from study.actual_cost import compute_seconds, trial_seconds
from study.ledger import Record, read_ledger
from study.planning import Plan, Role
from study.trial_cost import EVALUATION, ROLES, Costs, TrialCost, typical

# Trials are of the same kind if they agree on these.
SAME = (
    "method.name",
    "backbone.name",
    "data.name",
    "data.classes",
    "data.train_per_class",
    "data.image_size",
    "optim.epochs",
    "optim.batch_size",
    "optim.precision",
)
TASKS = "data.tasks"
_Trial = tuple[Mapping[str, Any], str, tuple[Record, ...], float, float]


def past_costs(plan: Plan, folders: Sequence[Path]) -> tuple[Costs, list[str]]:
    """The costs of trials by cell and role, and a line on each cell about where they are from.

    Of finished trials of the same method, backbone, data set, epochs and batch those of the
    nearest number of tasks count, and of the same role where there are any. The images of a task
    are taken to be fewer as tasks are more.

    Raises:
        ValueError: if a folder is not that of a study.
    """
    trials = [one for folder in folders for one in _trials(folder)]
    costs: dict[tuple[str, Role], TrialCost] = {}
    lines = []
    for cell in plan.cells:
        for role in ROLES:
            params = typical(cell, role)
            alike = [one for one in trials if all(one[0].get(k) == params[k] for k in SAME)]
            chosen = [one for one in alike if one[1] == role] or alike
            if not chosen:
                continue
            tasks = {len(one[2]) for one in chosen}
            near = min(tasks, key=lambda one: (abs(math.log(one / cell.tasks)), one))
            chosen = [one for one in chosen if len(one[2]) == near]
            costs[cell.id, role] = _cost(chosen, near, cell.tasks)
            if role == "search":
                lines.append(f"{cell.id}: {len(chosen)} past trials of {near} tasks")
        if (cell.id, "search") not in costs:
            lines.append(f"{cell.id}: no past trial is of its kind")
    return costs, lines


def _trials(folder: Path) -> list[_Trial]:
    """Finished trials: params, role, task records, seconds beside tasks, bytes in the ledger."""
    path = folder / "ledger.jsonl"
    try:
        records = read_ledger(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--past must be the folder of a study, with its ledger.jsonl, but got {folder}: "
            f"{getattr(error, 'strerror', None) or error}."
        ) from error
    seconds = trial_seconds(records)
    done = {
        one["trial"] for one in records if one["kind"] == "end" and one["status"] == "completed"
    }
    tasks: dict[str, dict[int, Record]] = {name: {} for name in done}
    for one in records:
        if one["kind"] == "task" and one["trial"] in done:
            tasks[one["trial"]][one["task"]] = one
    found = {}
    for one in records:
        if one["kind"] != "trial" or not tasks.get(one["trial"]):
            continue
        rows = tuple(row for _, row in sorted(tasks[one["trial"]].items()))
        # A search on the first tasks only says nothing of a whole stream's length.
        if len(rows) != one["params"].get(TASKS):
            continue
        computed = sum(compute_seconds(row["metrics"]) for row in rows)
        size = sum(len(json.dumps(row)) for row in (one, *rows))
        beside = max(0.0, seconds[one["trial"]] - computed)
        found[one["trial"]] = (one["params"], one["role"], rows, beside, float(size))
    return list(found.values())


def _cost(chosen: Sequence[_Trial], near: int, tasks: int) -> TrialCost:
    """The mean of trials of `near` tasks, stretched to `tasks`."""
    ratio = near / tasks
    evaluation = [_mean(chosen, at, EVALUATION) for at in range(near)]
    training = [
        fmean(compute_seconds(one[2][at]["metrics"]) for one in chosen) - evaluation[at]
        for at in range(near)
    ]
    # As far along the stream as task `at` of the new one.
    along = [min(near - 1, math.floor((at + 0.5) * ratio)) for at in range(tasks)]
    peaks = [_mean(chosen, at, "memory/peak_device_bytes") for at in range(near)]
    return TrialCost(
        seconds=tuple(training[one] * ratio + evaluation[one] for one in along),
        setup=fmean(one[3] for one in chosen),
        checkpoint_bytes=_mean(chosen, near - 1, "memory/checkpoint_bytes"),
        record_bytes=fmean(one[4] for one in chosen) / ratio,
        device_bytes=max(peaks) or None,
        source="past trials",
    )


def _mean(chosen: Sequence[_Trial], at: int, metric: str) -> float:
    return fmean(one[2][at]["metrics"].get(metric) or 0.0 for one in chosen)
