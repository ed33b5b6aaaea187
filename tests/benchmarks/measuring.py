"""What all benchmarks measure with: a row of the table, the machine, seconds of calls in turns."""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

# Three decimals say too little of what is below.
SMALL = 0.01
CPU_FILE = Path("/proc/cpuinfo")
# What the kernel calls instructions for products of bfloat16 numbers.
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
# One thread, as Ray gives a trial of one core; several cannot be timed beside other programs.
THREADS = int(os.environ.get("BENCH_THREADS", "1"))
REPEATS = int(os.environ.get("BENCH_REPEATS", "3"))


@dataclass(frozen=True)
class Row:
    """A ratio measured in one run, and the most (`at_least`: the least) that it should be.

    A row without a `limit` is stated and not judged; one without a `ratio` was not measured, and
    its note says why.
    """

    name: str
    ratio: float | None
    limit: float | None = None
    note: str = ""
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """The word for the table: "ok", "OVER", "UNDER", "stated" or "not measured"."""
        if self.ratio is None:
            return "not measured"
        if self.limit is None:
            return "stated"
        if self.at_least:
            return "ok" if self.ratio >= self.limit else "UNDER"
        return "ok" if self.ratio <= self.limit else "OVER"

    @property
    def line(self) -> str:
        """The row as one line of the table."""
        value = "—"
        if self.ratio is not None:
            value = f"{self.ratio:.3f}" if abs(self.ratio) >= SMALL else f"{self.ratio:.1e}"
        bound = ""
        if self.limit is not None:
            bound = f"{'at least' if self.at_least else 'at most'} {self.limit:g}"
        return f"{self.name:<66} {value:>8}  {bound:<14} {self.verdict:<12} {self.note}".rstrip()


def describe() -> dict[str, str | int | float]:
    """The processor, the cores and threads in use, the load, torch and the GPU."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load": load(),
        "torch": str(torch.__version__),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def load() -> float:
    """Processes that wanted to run, on average over the last minute."""
    return round(os.getloadavg()[0], 1)


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precisions() -> tuple[str, ...]:
    """`optim.precision` that is worth a measurement: a GPU's bfloat16, a CPU's if it has one."""
    if device().type == "cuda":
        return ("bfloat16",)
    flags = set(CPU_FILE.read_text(encoding="utf-8").split()) if CPU_FILE.exists() else set()
    return ("float32", "bfloat16") if flags & BFLOAT16 else ("float32",)


def now(device: torch.device) -> float:
    """Seconds: the device's, once all that was asked of it is done.

    On a CPU with one thread they are processor time, which other programs do not add to; with
    more threads, wall time (threads that wait for each other would count as well).
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" and THREADS == 1 else time.perf_counter()


def in_turns(
    calls: Mapping[str, Callable[[], object]], device: torch.device, repeats: int = REPEATS
) -> dict[str, float]:
    """Median seconds of each call: all of them once unmeasured, then `repeats` times A B C A B C.

    So a machine's changing load weighs on all alike. A call that is timed for less than a few
    seconds needs many repeats.
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
    return {name: statistics.median(times) for name, times in seconds.items()}


def use_threads() -> None:
    """Gives torch the number of threads that is measured with."""
    torch.set_num_threads(THREADS)


def _cpu() -> str:
    lines = CPU_FILE.read_text(encoding="utf-8").splitlines() if CPU_FILE.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
