"""A whole training step at ViT-B's shapes: ours at task 50 over task 1, the recipe's over ours.

Ours is `trainables.fitting.train_epochs` over the images of one batch on the model and method of
a trial at that task; theirs is reference_step, in float32. Forward, loss over the current task's
classes, backward, Adam. All take turns; numbers are medians. On a GPU ours is in bfloat16
(`optim.precision`), on a CPU in float32 and, where it has instructions for it, in bfloat16.

Environment: STEP_BATCH (default 8, on a GPU 128), STEP_REPEATS (default 3), STEP_METHODS (default
"inflora,sd_lora"), STEP_NETWORK (default ViT-B/16), BENCH_THREADS (default 1).
"""

import os
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from tests.benchmarks import machine, ours, reference_step, stopwatch
from tests.benchmarks.row import Row

POINTS = (1, 10, 50)
LATE_OVER_FIRST = {"inflora": 1.05, "sd_lora": 1.15}
# Least speed over the released recipe's, by number of tasks.
ON_CPU = {1: 1.3, 10: 1.5, 50: 2.4}
ON_GPU = {1: 4.0, 10: 5.0, 50: 8.0}
# A step on a GPU is too short to be timed alone.
GPU_STEPS = 10


def rows() -> Iterator[Row]:
    """For each method: its own growth, and the recipe's seconds over ours."""
    ours.prepare()
    device = machine.device()
    methods = os.environ.get("STEP_METHODS", "inflora,sd_lora").split(",")
    for method in methods:
        yield from _method_rows(method, device)


def _method_rows(method: str, device: torch.device) -> list[Row]:
    gpu = device.type == "cuda"
    batch = int(os.environ.get("STEP_BATCH", "128" if gpu else "8"))
    repeats = int(os.environ.get("STEP_REPEATS", "3"))
    network = os.environ.get("STEP_NETWORK", ours.VIT)
    steps = GPU_STEPS if gpu else 1
    images = ours.random_images(batch, device)
    calls: dict[str, Callable[[], object]] = {}
    for tasks in POINTS:
        calls[f"theirs {tasks}"] = _theirs(method, tasks, network, images, steps)
        for precision in machine.precisions():
            config = ours.config_of(method, batch, steps, network, precision=precision)
            calls[f"{precision} {tasks}"] = ours.at_task(config, tasks, images).train_steps
    seconds = stopwatch.in_turns(calls, repeats, device)
    one = {name: value / steps for name, value in seconds.items()}
    found = []
    for precision in machine.precisions():
        found += _precision_rows(method, precision, one, f"batch {batch}", gpu)
    return found


def _precision_rows(
    method: str, precision: str, one: Mapping[str, float], batch: str, gpu: bool
) -> list[Row]:
    """The rows of ours in `precision`, from the seconds of a step of each."""
    first, last = POINTS[0], POINTS[-1]
    early, late = one[f"{precision} {first}"], one[f"{precision} {last}"]
    found = [
        Row(
            f"step, {method}, {precision}: ours at task {last} / task {first}",
            late / early,
            LATE_OVER_FIRST[method],
            f"{late:.3f} s / {early:.3f} s, {batch}",
        )
    ]
    for tasks in POINTS:
        theirs, own = one[f"theirs {tasks}"], one[f"{precision} {tasks}"]
        found.append(
            Row(
                f"step, {method}, {precision}: released recipe / ours at task {tasks}",
                theirs / own,
                (ON_GPU if gpu else ON_CPU)[tasks],
                f"{theirs:.3f} s / {own:.3f} s, {batch}",
                at_least=True,
            )
        )
    return found


def _theirs(
    method: str, tasks: int, network: str, images: Tensor, steps: int
) -> Callable[[], object]:
    model = reference_step.ReferenceModel(method, tasks, ours.CLASSES, network).to(images.device)
    floats = images / 255.0
    labels = torch.arange(len(images), device=images.device) % ours.CLASSES
    return lambda: reference_step.train(model, [(floats, labels)] * steps, 5e-4)
