"""Peak memory of training at task 50 over task 1, at ViT-B's shapes.

Each point is a process of its own, since memory that one has used is not given back for the next.
On a CPU: the most resident bytes while training, less those before the model was built (Linux). On
a GPU: the most bytes that torch had allocated.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.benchmarks import measuring, ours
from tests.benchmarks.workers import Workers, say

LIMITS = {"inflora": 1.1, "sd_lora": 1.25}


def rows() -> Iterator[measuring.Row]:
    """One row a method."""
    for method in ours.METHODS:
        first, last = (_peak(method, tasks) for tasks in (1, ours.TASKS))
        yield measuring.Row(
            f"memory, {method}: ours at task {ours.TASKS} / task 1",
            last / first,
            LIMITS[method],
            f"{last / 1e6:.0f} MB / {first / 1e6:.0f} MB",
        )


def _peak(method: str, tasks: int) -> int:
    with Workers([["tests.benchmarks.bench_memory", method, str(tasks)]]) as worker:
        return int(worker.answers()[0])


def _measure(method: str, tasks: int) -> None:
    """Builds the trial, trains two steps and says the bytes."""
    ours.prepare()
    device = measuring.device()
    before = _resident("VmRSS")
    config = ours.config_of(method, ours.batch(), 2, ours.NETWORK)
    trial = ours.at_task(config, tasks, ours.random_images(ours.batch(), device))
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # This sets the peak back to what is resident now.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    trial.train_steps()
    say(torch.cuda.max_memory_allocated(device) if on_gpu else _resident("VmHWM") - before)


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    _measure(sys.argv[1], int(sys.argv[2]))
