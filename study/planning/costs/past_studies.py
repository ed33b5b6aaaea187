"""What trials cost, from the ledgers of past studies: those of the same kind."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from study.ledger import TASKS, StudyFolder, StudyRecords, TrialRecord, read_study
from study.planning.cells import Plan, Role
from study.planning.costs.trial_cost import EVALUATION, ROLES, Costs, TrialCost, typical

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


@dataclass(frozen=True)
class _PastTrial:
    """A finished trial; `record_bytes` is what it takes in the ledger."""

    trial: TrialRecord
    record_bytes: float


def past_costs(plan: Plan, folders: Sequence[Path]) -> tuple[Costs, list[str]]:
    """The costs of trials by cell and role, and a line on each cell about where they are from.

    Of finished trials of the same method, backbone, data set, epochs and batch those of the
    nearest number of tasks count, and of the same role where there are any. The images of a task
    are taken to be fewer as tasks are more.

    Raises:
        ValueError: if a folder is not that of a study.
    """
    past = [trial for folder in folders for trial in _finished(read_past(folder))]
    costs: dict[tuple[str, Role], TrialCost] = {}
    lines = []
    for cell in plan.cells:
        for role in ROLES:
            params = typical(cell, role)
            alike = [
                entry for entry in past if all(entry.trial.params.get(k) == params[k] for k in SAME)
            ]
            chosen = [entry for entry in alike if entry.trial.role == role] or alike
            if not chosen:
                continue
            counts = {len(entry.trial.tasks) for entry in chosen}
            near = min(counts, key=lambda count: (abs(math.log(count / cell.tasks)), count))
            chosen = [entry for entry in chosen if len(entry.trial.tasks) == near]
            costs[cell.id, role] = _cost(chosen, near, cell.tasks)
            if role == "search":
                lines.append(f"{cell.id}: {len(chosen)} past trials of {near} tasks")
        if (cell.id, "search") not in costs:
            lines.append(f"{cell.id}: no past trial is of its kind")
    return costs, lines


def read_past(path: Path) -> StudyRecords:
    """What a past study has recorded.

    Raises:
        ValueError: if a folder is not that of a study.
    """
    folder = StudyFolder(path)
    try:
        return read_study(folder.ledger)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--past must be the folder of a study, with its {folder.ledger.name}, but got "
            f"{folder.path}: {getattr(error, 'strerror', None) or error}."
        ) from error


def _finished(study: StudyRecords) -> list[_PastTrial]:
    """The trials of a study that saw a whole stream."""
    seen = sum(len(trial.tasks) for trial in study.trials)
    # Nearly all of a ledger is what was measured after tasks.
    task_bytes = study.ledger_bytes / max(1, seen)
    return [
        _PastTrial(trial, task_bytes * len(trial.tasks))
        for trial in study.trials
        # A search on the first tasks only says nothing of a whole stream's length.
        if trial.status == "completed" and len(trial.tasks) == trial.params.get(TASKS)
    ]


def _cost(chosen: Sequence[_PastTrial], near: int, tasks: int) -> TrialCost:
    """The mean of trials of `near` tasks, stretched to `tasks`."""
    ratio = near / tasks
    evaluation = _evaluations(chosen, near)
    training = [
        fmean(entry.trial.tasks[at].compute_seconds for entry in chosen)
        - _mean(chosen, at, EVALUATION)
        for at in range(near)
    ]
    # As far along the stream as task `at` of the new one.
    along = [min(near - 1, math.floor((at + 0.5) * ratio)) for at in range(tasks)]
    peaks = [_mean(chosen, at, "memory/peak_device_bytes") for at in range(near)]
    return TrialCost(
        seconds=tuple(training[at] * ratio + evaluation[at] for at in along),
        setup=fmean(
            max(0.0, entry.trial.seconds - entry.trial.compute_seconds) for entry in chosen
        ),
        checkpoint_bytes=_mean(chosen, near - 1, "memory/checkpoint_bytes"),
        record_bytes=fmean(entry.record_bytes for entry in chosen) / ratio,
        device_bytes=max(peaks) or None,
        source="past trials",
        evaluation=tuple(evaluation[at] for at in along),
    )


def _evaluations(chosen: Sequence[_PastTrial], tasks: int) -> list[float]:
    """Seconds of an evaluation after each task; where no trial did one, a share of the next."""
    known: dict[int, float] = {}
    for at in range(tasks):
        seconds = [
            metrics[EVALUATION]
            for entry in chosen
            if EVALUATION in (metrics := entry.trial.tasks[at].metrics)
        ]
        if seconds:
            known[at] = fmean(seconds)
    found = []
    for at in range(tasks):
        # The images of all tasks seen are evaluated.
        later = min((task for task in known if task >= at), default=None)
        found.append(0.0 if later is None else known[later] * (at + 1) / (later + 1))
    return found


def _mean(chosen: Sequence[_PastTrial], at: int, metric: str) -> float:
    return fmean(entry.trial.tasks[at].metrics.get(metric, 0.0) for entry in chosen)
