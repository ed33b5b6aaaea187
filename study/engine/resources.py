"""What of a cluster a trial takes: its share of a GPU, room for it, and how many fit."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from study.engine.ray_session import alive_nodes
from study.errors import MistakeError
from study.planning import Plan
from study.planning.costs import Measured, heaviest, measure, shared_among
from study.system import say

# A cloud needs some minutes for a GPU node, and its set-up some more.
ROOM_SECONDS = 900.0


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


def _measure_memory(params: Mapping[str, Any], cpu: float) -> Measured:
    return measure(params, cpu, gpu=True)


def slots(cpu: float, gpu: float) -> int:
    """How many trials of `cpu` cores and `gpu` GPUs fit into the cluster as it is; at least 1."""
    have = ray.cluster_resources()
    fits: list[int] = [
        math.floor(have.get(name, 0) / need + 1e-9)
        for name, need in (("CPU", cpu), ("GPU", gpu))
        if need > 0
    ]
    return max(1, min(fits))


def wait_for_room(cpu: float, gpu: float | str, stopped: Callable[[], bool]) -> None:
    """Asks a cluster's autoscaler for a node that can run a trial, where there is none yet.

    After ROOM_SECONDS without one it returns: `check_resources` says then what is missing. `gpu`
    may be "auto".

    Raises:
        SystemExit: once `stopped` is true.
    """
    need = {"CPU": cpu, "GPU": 0.0 if isinstance(gpu, str) else gpu}
    need = {key: amount for key, amount in need.items() if amount > 0}
    if _room(need):
        return
    text = ", ".join(f"{key} {amount:g}" for key, amount in need.items())
    say(
        f"No node has room for a trial ({text}): waiting up to {ROOM_SECONDS / 60:g} minutes for "
        f"the autoscaler, or a worker, to bring one. `ray status` on the head says why none comes."
    )
    end = time.monotonic() + ROOM_SECONDS
    request_resources(bundles=[need])
    try:
        while not _room(need) and time.monotonic() < end:
            if stopped():
                raise SystemExit(1)
            time.sleep(0.5)
    finally:
        request_resources(bundles=[])


def _room(need: Mapping[str, float]) -> bool:
    """Whether a single node has as much, busy or not."""
    return any(
        all(node["Resources"].get(key, 0) >= amount for key, amount in need.items())
        for node in alive_nodes()
    )


def check_resources(cpu: float, gpu: float) -> None:
    """Refuses trials of `cpu` cores and `gpu` GPUs that the cluster could not run.

    Raises:
        MistakeError: naming what a trial asks for and what there is.
    """
    have = ray.cluster_resources()
    for name, need in (("CPU", cpu), ("GPU", gpu)):
        if need > have.get(name, 0):
            raise MistakeError(
                f"resources.{name.lower()} must be at most {have.get(name, 0):g} (all that Ray "
                f"found here), but got {need:g}."
            )
