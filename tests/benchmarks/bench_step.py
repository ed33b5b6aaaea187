"""A whole training step at ViT-B's shapes: ours at task 50 over task 1, the recipe's over ours.

Ours is `trainables.fitting.train_epochs` over the images of one batch on the model and method of
a trial at that task; theirs is reference, in float32. Forward, loss over the current task's
classes, backward, Adam. All take turns; numbers are medians. On a GPU ours is in bfloat16
(`optim.precision`), on a CPU in float32 and, where it has instructions for it, in bfloat16. Then
the embedded networks at their own size, one beside the other.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from tests.benchmarks import measuring, ours, reference

POINTS = (1, 10, 50)
LATE_OVER_FIRST = {"inflora": 1.05, "sd_lora": 1.15}
# Least speed over the released recipe's, by number of tasks.
ON_CPU = {1: 1.3, 10: 1.5, 50: 2.4}
ON_GPU = {1: 4.0, 10: 5.0, 50: 8.0}
# Least images a second of plain_vit over those of compact_vit.
PLAIN_OVER_COMPACT = 0.8
EMBEDDED_BATCH, EMBEDDED_STEPS = 32, 20
# A step on a GPU is too short to be timed alone.
GPU_STEPS = 10


def rows() -> Iterator[measuring.Row]:
    """For each method: its own growth, and the recipe's seconds over ours."""
    ours.prepare()
    device = measuring.device()
    gpu = device.type == "cuda"
    for method in ours.METHODS:
        a_step = _seconds_of_a_step(method, device, GPU_STEPS if gpu else 1)
        for precision in measuring.precisions():
            yield from _rows(method, precision, a_step, ON_GPU if gpu else ON_CPU)
    for method in ours.METHODS:
        yield _embedded(method, device)


def _seconds_of_a_step(method: str, device: torch.device, steps: int) -> dict[str, float]:
    """Of theirs and of ours in each precision, at each of the points."""
    images = ours.random_images(ours.batch(), device)
    calls: dict[str, Callable[[], object]] = {}
    for tasks in POINTS:
        calls[f"theirs {tasks}"] = _theirs(method, tasks, images, steps)
        for precision in measuring.precisions():
            config = ours.config_of(method, ours.batch(), steps, ours.NETWORK, precision)
            calls[f"{precision} {tasks}"] = ours.at_task(config, tasks, images).train_steps
    seconds = measuring.in_turns(calls, device)
    return {name: value / steps for name, value in seconds.items()}


def _rows(
    method: str, precision: str, a_step: Mapping[str, float], least: Mapping[int, float]
) -> Iterator[measuring.Row]:
    """The rows of ours in `precision`, from the seconds of a step of each."""
    name, batch = f"step, {method}, {precision}", f"batch {ours.batch()}"
    first, last = POINTS[0], POINTS[-1]
    early, late = a_step[f"{precision} {first}"], a_step[f"{precision} {last}"]
    note = f"{late:.3f} s / {early:.3f} s, {batch}"
    growth = f"{name}: ours at task {last} / task {first}"
    yield measuring.Row(growth, late / early, LATE_OVER_FIRST[method], note)
    for tasks in POINTS:
        theirs, own = a_step[f"theirs {tasks}"], a_step[f"{precision} {tasks}"]
        note = f"{theirs:.3f} s / {own:.3f} s, {batch}"
        ratio = f"{name}: released recipe / ours at task {tasks}"
        yield measuring.Row(ratio, theirs / own, least[tasks], note, at_least=True)


def _embedded(method: str, device: torch.device) -> measuring.Row:
    images = ours.random_images(EMBEDDED_BATCH, device, 1, 32)
    calls = {}
    for network in ours.EMBEDDED:
        config = ours.config_of(method, EMBEDDED_BATCH, EMBEDDED_STEPS, network, "float32")
        calls[network] = ours.at_task(config, 1, images).train_steps
    seconds = measuring.in_turns(calls, device)
    speeds = {name: EMBEDDED_BATCH * EMBEDDED_STEPS / value for name, value in seconds.items()}
    plain, compact = speeds[ours.PLAIN], speeds[ours.SMALL]
    note = f"{plain:.0f} / {compact:.0f} images a second, batch {EMBEDDED_BATCH}, 32 px"
    name = f"step, {method}, float32: {ours.PLAIN} / {ours.SMALL}"
    return measuring.Row(name, plain / compact, PLAIN_OVER_COMPACT, note, at_least=True)


def _theirs(method: str, tasks: int, images: Tensor, steps: int) -> Callable[[], object]:
    model = reference.ReferenceModel(method, tasks, ours.CLASSES, ours.NETWORK)
    model.to(images.device)
    floats = images / 255.0
    labels = torch.arange(len(images), device=images.device) % ours.CLASSES
    return lambda: reference.train(model, [(floats, labels)] * steps, 5e-4)
