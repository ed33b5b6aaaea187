"""Peak memory of training at task 50 over task 1, at ViT-B's shapes: see peak_memory.py.

Environment: STEP_BATCH (default 8, on a GPU 128), STEP_METHODS, STEP_NETWORK as in bench_step.
"""

import os
import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks import machine, ours
from tests.benchmarks.row import Row

LIMITS = {"inflora": 1.1, "sd_lora": 1.25}


def rows() -> Iterator[Row]:
    """One row a method."""
    methods = os.environ.get("STEP_METHODS", "inflora,sd_lora").split(",")
    for method in methods:
        yield _row(method)


def _row(method: str) -> Row:
    first, last = _peak(method, 1), _peak(method, ours.TASKS)
    return Row(
        f"memory, {method}: ours at task {ours.TASKS} / task 1",
        last / first,
        LIMITS[method],
        f"{last / 1e6:.0f} MB / {first / 1e6:.0f} MB",
    )


def _peak(method: str, tasks: int) -> int:
    batch = os.environ.get("STEP_BATCH", "128" if machine.device().type == "cuda" else "8")
    network = os.environ.get("STEP_NETWORK", ours.VIT)
    command = [sys.executable, "-m", "tests.benchmarks.peak_memory"]
    done = subprocess.run(
        [*command, method, str(tasks), batch, network], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} must succeed, but it said: {done.stderr[-2000:]}")
    return int(done.stdout)
