"""What one trial costs, task by task, and which share of a GPU it takes, from measured probes."""

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from study.planning import space
from study.planning.cells import Cell, Plan, Role
from study.planning.costs.probe import Load, Measured, loads_of, measure

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
    "data.rendition",
    "data.rendition_strength",
    "data.split_sha256",
    "evaluation.during",
    "optim.lr",
    "optim.alpha_lr",
    "optim.head_lr",
    "optim.prompt_lr",
    "optim.momentum",
    "optim.weight_decay",
    "optim.alpha_weight_decay",
)
# Beyond, trials wait for each other's kernels more than they gain.
MOST_TRIALS = 8
MARGIN = 1.1
# Cells that agree on these, and on their search space, need the same memory; the longest is
# measured.
MEMORY_KEYS = (
    "method.name",
    "backbone.name",
    "backbone.image_size",
    "data.name",
    "data.image_size",
    "optim.batch_size",
    "optim.precision",
    "optim.micro_batch",
)


@dataclass(frozen=True)
class TrialCost:
    """One trial over the whole stream: seconds of each task, seconds beside tasks, bytes.

    `seconds` are of trials that are evaluated after every task, of which that takes `evaluation`.

    `checkpoint_bytes` is that of the last checkpoint, None where it is not known, `record_bytes`
    the trial's part of the ledger; `device_bytes` is None where no GPU was used.
    """

    seconds: tuple[float, ...]
    setup: float
    checkpoint_bytes: float | None
    record_bytes: float
    device_bytes: float | None
    source: str
    evaluation: tuple[float, ...] = ()

    def evaluated(self, after: Collection[int] | None) -> "TrialCost":
        """The cost where it is evaluated after some numbers of tasks alone (None: after each)."""
        if after is None or not self.evaluation:
            return self
        seconds = (
            whole if task in after else max(0.0, whole - part)
            for task, (whole, part) in enumerate(
                zip(self.seconds, self.evaluation, strict=True), start=1
            )
        )
        left = (part if task in after else 0.0 for task, part in enumerate(self.evaluation, 1))
        return replace(self, seconds=tuple(seconds), evaluation=tuple(left))

    def hours(self, tasks: int) -> float:
        """Hours until `tasks` tasks are trained."""
        return (self.setup + sum(self.seconds[:tasks])) / 3600


Costs: TypeAlias = Mapping[tuple[str, Role], TrialCost]


@dataclass(frozen=True)
class Probed:
    """What a probe found: the costs of trials by cell and role, and every measurement."""

    costs: Costs
    measured: tuple[Measured, ...] = ()


def typical(cell: Cell, role: Role, seed: int | None = None) -> dict[str, Any]:
    """Flat params of a trial of a cell: what is searched has its default, where that fits.

    Without a `seed` it has the first of its role.
    """
    if seed is None:
        seed = cell.search_seed if role == "search" else cell.seeds[0]
    try:
        return dict(cell.config(role, {}, seed).to_params())
    except ValueError:
        lowest = {key: space.ends(distribution)[0] for key, distribution in cell.space.items()}
        return dict(cell.config(role, lowest, seed).to_params())


def probe_costs(plan: Plan, known: Costs, tell: Callable[[str], None]) -> Probed:
    """Measures one trial for each kind of cell that `known` says nothing of.

    `tell` takes a line on each. What cannot be measured stays unknown.
    """
    import torch

    asked = {
        cell.id: typical(cell, "search")
        for cell in plan.cells
        if any((cell.id, role) not in known for role in ROLES)
    }
    classes: dict[str, dict[str, Any]] = {}
    for params in asked.values():
        classes.setdefault(kind_of(params), params)
    probed: dict[str, Measured] = {}
    for number, (name, params) in enumerate(classes.items(), start=1):
        what = f"{params['method.name']}, {params['data.tasks']} tasks of {params['data.name']}"
        resources = plan.spec.resources
        try:
            probed[name] = measure(params, resources.cpu, resources.gpu != 0)
        except (FloatingPointError, torch.OutOfMemoryError) as error:
            reason = str(error).splitlines()[0]
            tell(f"probe {number}/{len(classes)}: {what}: could not be measured: {reason}")
            continue
        last = probed[name].metrics[-1]
        seconds = sum(last[key] for key in (*PASSES, TRAINING, EVALUATION))
        tell(f"probe {number}/{len(classes)}: {what}: {seconds:.2f} s a task")
    costs: dict[tuple[str, Role], TrialCost] = {}
    for cell in plan.cells:
        measured = probed.get(kind_of(asked[cell.id])) if cell.id in asked else None
        if measured is not None:
            size = len(json.dumps(asked[cell.id]))
            costs[cell.id, "search"] = extrapolate(measured, measured.loads, size)
            loads = loads_of(typical(cell, "confirm"))
            costs[cell.id, "confirm"] = extrapolate(measured, loads, size)
    return Probed(costs, tuple(probed.values()))


def extrapolate(measured: Measured, loads: Sequence[Load], params_bytes: int = 0) -> TrialCost:
    """The cost of a trial with these `loads`, from the first tasks of one like it.

    Seconds of the last measured task by image: passes by new images, training by those of an
    epoch. Evaluation by all that are held out so far, on a line through that task's and one of
    more images, whose slope is also what an image of a diagnosis costs. Bytes grow by what they
    grew from the task before.
    """
    last, load = measured.metrics[-1], measured.loads[len(measured.metrics) - 1]
    passes = sum(last[key] for key in PASSES) / load.new
    training, few = last[TRAINING] / load.epoch, last[EVALUATION]
    images, many = measured.evaluated
    each = few / load.held_out
    if images > load.held_out:
        each = min(each, max(0.0, (many - few) / (images - load.held_out)))
    evaluation = tuple(max(0.0, few + each * (task.held_out - load.held_out)) for task in loads)
    seconds = tuple(
        passes * task.new + training * task.epoch + part + each * task.diagnosed
        for task, part in zip(loads, evaluation, strict=True)
    )
    tasks = len(loads)
    checkpoints = [metrics["memory/checkpoint_bytes"] for metrics in measured.metrics]
    line = measured.record_bytes[-1]
    lines = [line + LINE_GROWTH * max(0, at - len(checkpoints)) for at in range(1, tasks + 1)]
    return TrialCost(
        seconds=seconds,
        setup=measured.setup_seconds,
        checkpoint_bytes=device_need(checkpoints, tasks),
        record_bytes=params_bytes + sum(lines),
        device_bytes=device_need(measured.device_bytes, tasks) if measured.device_bytes else None,
        source="a probe",
        evaluation=evaluation,
    )


def kind_of(params: Mapping[str, Any]) -> str:
    """A name for trials that cost the same."""
    kept = {key: value for key, value in params.items() if key not in CHEAP_KEYS}
    return json.dumps(kept, sort_keys=True)


def shared_among(trials: Iterable[Measured | None], tasks: int) -> float:
    """The share 1/n of a GPU for trials as those measured; a whole one where one was not."""
    shares = [
        1.0
        if trial is None or trial.device_total is None
        else share(device_need(trial.device_bytes, tasks), trial.device_total)
        for trial in trials
    ]
    return max(shares, default=1.0)


def device_need(peaks: Sequence[float], tasks: int) -> float:
    """Bytes of device memory that a trial of `tasks` tasks needs, from the peaks of the first.

    What the last measured task took more than the one before, every later one is taken to need
    on top: directions that are kept, as SD-LoRA's, grow with every task.
    """
    growth = max(0.0, peaks[-1] - peaks[-2]) if len(peaks) > 1 else 0.0
    return peaks[-1] + growth * max(0, tasks - len(peaks))


def share(need: float, total: float) -> float:
    """The share 1/n of a GPU of `total` bytes for a trial that needs `need`, with the margin."""
    fitting = math.floor(total / (MARGIN * need))
    count = min(MOST_TRIALS, max(1, fitting))
    # Ray counts in steps of 1/10000: rounded up, the last of seven would find no room.
    return math.floor(10_000 / count) / 10_000


def heaviest(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Flat params of one trial for each kind of cell: at the ends of its ranges that need most.

    An epoch is enough: memory does not depend on their number.
    """
    longest: dict[tuple[Any, ...], Cell] = {}
    for cell in sorted(cells, key=lambda cell: -cell.tasks):
        known = {**cell.fixed, **cell.key}
        kind = (*(known.get(key) for key in MEMORY_KEYS), *sorted(cell.space))
        longest.setdefault(kind, cell)
    return [_at_the_border(cell) for cell in longest.values()]


def _at_the_border(cell: Cell) -> dict[str, Any]:
    ends = {key: space.ends(distribution) for key, distribution in cell.space.items()}
    most = {
        key: max(values) if all(isinstance(end, int | float) for end in values) else values[-1]
        for key, values in ends.items()
        if key != "optim.epochs" and not key.endswith("lr")
    }
    for searched in (most, {}, {key: values[0] for key, values in ends.items()}):
        try:
            params = cell.config("search", searched, cell.search_seed).to_params()
        except ValueError:
            continue  # these ends do not fit together
        if params["optim.schedule"] != "step":
            params["optim.epochs"] = 1
        return dict(params)
    raise AssertionError("the plan has built a config with the lowest ends")
