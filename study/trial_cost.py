"""What one trial costs, task by task, from a measured probe of its first tasks."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from study import ranges
from study.device_share import device_need
from study.planning import Cell, Plan, Role
from study.probe import Load, Measured, loads_of, measure

PASSES = ("time/design_seconds", "time/absorb_seconds")
TRAINING, EVALUATION = "time/train_seconds", "time/evaluate_seconds"
# Bytes by which a task's line of the ledger is longer than the one before: an accuracy, a metric.
LINE_GROWTH = 64
ROLES: tuple[Role, ...] = ("search", "confirm")
# What a trial costs does not depend on these; presets and recipes are spelled out by then.
CHEAP_KEYS = (
    "seed",
    "preset",
    "recipe",
    "data.evaluation",
    "optim.lr",
    "optim.alpha_lr",
    "optim.head_lr",
    "optim.momentum",
    "optim.weight_decay",
    "optim.alpha_weight_decay",
)


@dataclass(frozen=True)
class TrialCost:
    """One trial over the whole stream: seconds of each task, seconds beside tasks, bytes.

    `checkpoint_bytes` is that of the last checkpoint, `record_bytes` the trial's part of the
    ledger; `device_bytes` is None where no GPU was used.
    """

    seconds: tuple[float, ...]
    setup: float
    checkpoint_bytes: float
    record_bytes: float
    device_bytes: float | None
    source: str

    def hours(self, tasks: int) -> float:
        """Hours until `tasks` tasks are trained."""
        return (self.setup + sum(self.seconds[:tasks])) / 3600


Costs: TypeAlias = Mapping[tuple[str, Role], TrialCost]


@dataclass(frozen=True)
class Probed:
    """What a probe found: the costs of trials by cell and role, and every measurement."""

    costs: Costs
    measured: tuple[Measured, ...] = field(default=())


def typical(cell: Cell, role: Role) -> dict[str, Any]:
    """Flat params of a trial of a cell: what is searched has its default, where that fits."""
    seed = cell.search_seed if role == "search" else cell.seeds[0]
    try:
        return dict(cell.config(role, {}, seed).to_params())
    except ValueError:
        lowest = {key: ranges.ends(one)[0] for key, one in cell.space.items()}
        return dict(cell.config(role, lowest, seed).to_params())


def probe_costs(plan: Plan, known: Costs, tell: Callable[[str], None]) -> Probed:
    """Measures one trial for each kind of cell that `known` says nothing of.

    `tell` takes a line on each. What cannot be measured stays unknown.
    """
    import torch

    open_cells = [one for one in plan.cells if any((one.id, role) not in known for role in ROLES)]
    classes: dict[str, dict[str, Any]] = {}
    for cell in open_cells:
        params = typical(cell, "search")
        classes.setdefault(_class(params), params)
    found: dict[str, Measured] = {}
    for number, (name, params) in enumerate(classes.items(), start=1):
        what = f"{params['method.name']}, {params['data.tasks']} tasks of {params['data.name']}"
        resources = plan.spec.resources
        try:
            found[name] = measure(params, resources.cpu, resources.gpu != 0)
        except (FloatingPointError, torch.OutOfMemoryError) as error:
            reason = str(error).splitlines()[0]
            tell(f"probe {number}/{len(classes)}: {what}: could not be measured: {reason}")
            continue
        seconds = _task_seconds(found[name].metrics[-1])
        tell(f"probe {number}/{len(classes)}: {what}: {seconds:.2f} s a task")
    costs: dict[tuple[str, Role], TrialCost] = {}
    for cell in open_cells:
        measured = found.get(_class(typical(cell, "search")))
        if measured is None:
            continue
        size = len(json.dumps(typical(cell, "search")))
        costs[cell.id, "search"] = extrapolate(measured, measured.loads, size)
        loads = loads_of(typical(cell, "confirm"))
        costs[cell.id, "confirm"] = extrapolate(measured, loads, size)
    return Probed(costs, tuple(found.values()))


def extrapolate(measured: Measured, loads: Sequence[Load], params_bytes: int = 0) -> TrialCost:
    """The cost of a trial with these `loads`, from the first tasks of one like it.

    Seconds of the last measured task by image: passes by new images, training by those of an
    epoch. Evaluation by all that are held out so far, on a line through that task's and one of
    more images. Bytes grow by what they grew from the task before.
    """
    last, load = measured.metrics[-1], measured.loads[len(measured.metrics) - 1]
    passes = sum(last[key] for key in PASSES) / load.new
    training, few = last[TRAINING] / load.epoch, last[EVALUATION]
    images, many = measured.evaluated
    each = few / load.held_out
    if images > load.held_out:
        each = min(each, max(0.0, (many - few) / (images - load.held_out)))
    seconds = tuple(
        passes * one.new
        + training * one.epoch
        + max(0.0, few + each * (one.held_out - load.held_out))
        for one in loads
    )
    tasks = len(loads)
    checkpoints = [one["memory/checkpoint_bytes"] for one in measured.metrics]
    line = measured.record_bytes[-1]
    lines = [line + LINE_GROWTH * max(0, at - len(checkpoints)) for at in range(1, tasks + 1)]
    return TrialCost(
        seconds=seconds,
        setup=measured.setup_seconds,
        checkpoint_bytes=device_need(checkpoints, tasks),
        record_bytes=params_bytes + sum(lines),
        device_bytes=device_need(measured.device_bytes, tasks) if measured.device_bytes else None,
        source="a probe",
    )


def _class(params: Mapping[str, Any]) -> str:
    """A name for trials that cost the same."""
    kept = {key: value for key, value in params.items() if key not in CHEAP_KEYS}
    return json.dumps(kept, sort_keys=True)


def _task_seconds(metrics: Mapping[str, float]) -> float:
    return sum(metrics[key] for key in (*PASSES, TRAINING, EVALUATION))
