"""What trials measured, over tasks and layers, as means over seeds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.evidence import Interval, interval
from study.ledger import TrialRecord

FREE, USED, SHORT = "subspace/dim_free", "subspace/dim_used", "subspace/exhausted_layers"


@dataclass(frozen=True)
class Exhaustion:
    """The first task after which a layer had fewer free dimensions than asked for."""

    layer: str
    task: int
    seed: int


def final_by_seed(trials: Sequence[TrialRecord], metric: str) -> dict[int, float]:
    """The metric after the last task of every completed trial that has it, by seed."""
    finals = {trial.seed: trial.final(metric) for trial in trials if trial.status == "completed"}
    return {seed: value for seed, value in finals.items() if value is not None}


def mean_curve(trials: Sequence[TrialRecord], metric: str) -> dict[int, Interval]:
    """The metric by tasks seen, over the trials that have it there."""
    series = [trial.series(metric) for trial in trials]
    tasks = sorted({task for curve in series for task in curve})
    return {task: interval([curve[task] for curve in series if task in curve]) for task in tasks}


def mean_matrix(trials: Sequence[TrialRecord]) -> list[list[float]]:
    """acc[t][i] as a mean over the trials, for as many tasks as all of them have; row t has t."""
    if not trials:
        return []
    tables = [[record.accuracy_row for record in trial.tasks] for trial in trials]
    return [
        [math.fsum(values) / len(values) for values in zip(*rows, strict=True)]
        for rows in zip(*tables, strict=False)
    ]


def layers(trials: Sequence[TrialRecord], metric: str = FREE) -> tuple[str, ...]:
    """What comes after `metric/` in the trials' metrics: layers, or tasks; in order of number."""
    prefix = f"{metric}/"
    names = {name for trial in trials for task in trial.tasks for name in task.metrics}
    tails = (name[len(prefix) :] for name in names if name.startswith(prefix))
    # By length first: task_100 comes after task_99.
    return tuple(sorted(tails, key=lambda name: (len(name), name)))


def by_layer(trials: Sequence[TrialRecord], metric: str = FREE) -> dict[str, dict[int, float]]:
    """The metric as layer → tasks seen → mean over the trials."""
    return {
        layer: {task: over.mean for task, over in mean_curve(trials, f"{metric}/{layer}").items()}
        for layer in layers(trials, metric)
    }


def free_share(trials: Sequence[TrialRecord]) -> dict[str, dict[int, float]]:
    """Share of a layer's input dimensions that is free, as layer → tasks seen → mean."""
    free, used = by_layer(trials), by_layer(trials, USED)
    shares: dict[str, dict[int, float]] = {}
    for layer, dims in free.items():
        # Without dim_used the layer's width is not known: the most that was free stands for it.
        most = max(dims.values()) or 1.0
        taken = used.get(layer, {})
        shares[layer] = {
            task: dim / ((dim + taken[task]) or 1.0) if task in taken else dim / most
            for task, dim in dims.items()
        }
    return shares


def first_tasks(
    trial: TrialRecord, metric: str, reached: Callable[[float], bool]
) -> dict[str, int]:
    """The first task after which a layer's metric is so; layers where it never is are left out."""
    series = {layer: trial.series(f"{metric}/{layer}") for layer in layers([trial], metric)}
    hits = {
        layer: [task for task, value in own.items() if reached(value)]
        for layer, own in series.items()
    }
    return {layer: min(tasks) for layer, tasks in hits.items() if tasks}


def exhausted(trial: TrialRecord) -> dict[str, int]:
    """The first task after which a layer had too few free dimensions, by layer.

    The trial's own word counts (subspace/exhausted_layers/layer_XX), since the rank may change
    with the task and a memory may have been relaxed; without one, fewer than `method.rank`.
    """
    if layers([trial], SHORT):
        return first_tasks(trial, SHORT, lambda flag: flag > 0)
    rank = float(trial.params.get("method.rank") or 0)
    return first_tasks(trial, FREE, lambda dims: dims < rank)


def first_exhausted(trials: Sequence[TrialRecord]) -> list[Exhaustion]:
    """Per trial, the first layer and task that ran short of free dimensions."""
    return _firsts((trial, exhausted(trial)) for trial in trials)


def first_empty(trials: Sequence[TrialRecord]) -> list[Exhaustion]:
    """Per trial, the first layer and task with no free dimension at all."""
    return _firsts((trial, first_tasks(trial, FREE, lambda dims: dims < 0.5)) for trial in trials)


def _firsts(found: Iterable[tuple[TrialRecord, Mapping[str, int]]]) -> list[Exhaustion]:
    return [
        # Of equal tasks the first layer.
        Exhaustion(*min(tasks.items(), key=lambda place: place[1]), trial.seed)
        for trial, tasks in found
        if tasks
    ]
