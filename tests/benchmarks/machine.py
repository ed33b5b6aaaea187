"""Which machine measured, and whether it has a GPU to measure on."""

import os
import platform
from pathlib import Path

import torch

from tests.benchmarks.row import Row

CPU_FILE = Path("/proc/cpuinfo")
# What the kernel calls instructions for products of bfloat16 numbers.
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


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


def without_gpu(name: str, limit: float | None = None, at_least: bool = False) -> Row:
    """The row of a benchmark that has no meaning on a CPU."""
    return Row(name, None, limit, "needs a GPU", at_least)


def _cpu() -> str:
    if CPU_FILE.exists():
        for line in CPU_FILE.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
