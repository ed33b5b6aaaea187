"""The share of a GPU that a trial takes: asked for, or measured before the study starts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from study import ranges
from study.planning import Cell, Plan
from study.probe import Measured, measure
from study.terminal import say

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


def gpu_share(plan: Plan) -> float:
    """GPUs per trial: the study file's number, or for "auto" what a trial needs of one.

    "auto" trains the first two tasks of one trial for each kind of cell, with the ends of its
    ranges that need most memory, each in a task of Ray that has a GPU to itself. Peak device
    memory, extrapolated to the last task, with a margin of 10 % gives how many trials fit, 8 at
    most. Without a GPU in the cluster it is 0. Ray must be running.
    """
    asked = plan.spec.resources.gpu
    if asked != "auto":
        return float(asked)
    import ray

    if not ray.cluster_resources().get("GPU", 0):
        return 0.0
    import torch

    cpu = plan.spec.resources.cpu
    remote = ray.remote(num_gpus=1, num_cpus=cpu, max_calls=1)(_measure_memory)
    found: list[Measured | None] = []
    for params in heaviest(plan.cells):
        say(f"resources.gpu auto: measuring {params['method.name']} on {params['backbone.name']}")
        try:
            found.append(ray.get(remote.remote(params, cpu)))
        except (torch.OutOfMemoryError, FloatingPointError) as error:
            say(f"  could not be measured ({str(error).splitlines()[0]}): a trial gets a whole GPU")
            found.append(None)
    share = shared_among(found, max(cell.tasks for cell in plan.cells))
    say(f"resources.gpu auto: {share:g} of a GPU for each trial")
    return share


def shared_among(found: Iterable[Measured | None], tasks: int) -> float:
    """The share 1/n of a GPU for trials as those measured; a whole one where one was not."""
    shares = [
        1.0
        if one is None or one.device_total is None
        else share(device_need(one.device_bytes, tasks), one.device_total)
        for one in found
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
    for cell in sorted(cells, key=lambda one: -one.tasks):
        known = {**cell.fixed, **cell.key}
        kind = (*(known.get(key) for key in MEMORY_KEYS), *sorted(cell.space))
        longest.setdefault(kind, cell)
    return [_at_the_border(cell) for cell in longest.values()]


def _at_the_border(cell: Cell) -> dict[str, Any]:
    ends = {key: ranges.ends(one) for key, one in cell.space.items()}
    most = {
        key: max(values) if all(isinstance(one, int | float) for one in values) else values[-1]
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


def _measure_memory(params: Mapping[str, Any], cpu: float) -> Measured:
    return measure(params, cpu, gpu=True)
