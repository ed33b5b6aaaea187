"""Says how many bytes a training step at a task needs: `METHOD TASKS BATCH NETWORK`.

A process of its own, since memory that one point has used is not given back for the next. On a
CPU: the most resident bytes while training, less those before the model was built (Linux). On a
GPU: the most bytes that torch had allocated.
"""

import sys
from pathlib import Path

import torch

from tests.benchmarks import machine, ours

STATUS = Path("/proc/self/status")
# Writing 5 there sets the peak back to what is resident now.
RESET = Path("/proc/self/clear_refs")


def main() -> None:
    """Builds the trial, trains two steps and writes the bytes."""
    method, tasks, batch, network = sys.argv[1:5]
    ours.prepare()
    device = machine.device()
    before = _resident("VmRSS")
    config = ours.config_of(method, int(batch), 2, network)
    trial = ours.at_task(config, int(tasks), ours.random_images(int(batch), device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        RESET.write_text("5", encoding="ascii")
    trial.train_steps()
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _resident("VmHWM") - before
    sys.stdout.write(f"{peak}\n")


def _resident(key: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return 1024 * int(value.split()[0])
    raise RuntimeError(f"{STATUS} must say {key}, but does not.")


if __name__ == "__main__":
    main()
