"""Seconds of calls that take turns, so that a machine's changing load weighs on all alike."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping

import torch

# One thread, as Ray gives a trial of one core; several cannot be timed beside other programs.
THREADS = int(os.environ.get("BENCH_THREADS", "1"))


def now(device: torch.device) -> float:
    """Seconds: the device's, once all that was asked of it is done.

    On a CPU with one thread they are processor time, which other programs do not add to; with
    more threads, wall time (threads that wait for each other would count as well).
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" and THREADS == 1 else time.perf_counter()


def in_turns(
    calls: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each call: all of them once unmeasured, then `repeats` times A B C A B C.

    A call that is timed for less than a few seconds needs many repeats.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            gc.collect()
            start = now(device)
            call()
            seconds[name].append(now(device) - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def use_threads() -> None:
    """Gives torch the number of threads that is measured with (BENCH_THREADS, default 1)."""
    torch.set_num_threads(THREADS)
