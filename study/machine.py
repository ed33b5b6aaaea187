"""What the machine that drives a study is made of, without importing torch."""

import os
import platform
from pathlib import Path
from typing import Any

CPUS, MEMORY = Path("/proc/cpuinfo"), Path("/proc/meminfo")
NVIDIA = Path("/proc/driver/nvidia/gpus")


def machine() -> dict[str, Any]:
    """System, processor, cores this process may use, bytes of memory, and names of NVIDIA GPUs.

    What the system does not tell is None. On a cluster this is the head, not a trial's node.
    """
    return {
        "system": platform.platform(),
        "processor": _entry(CPUS, "model name") or platform.processor() or None,
        "cores": _cores(),
        "memory_bytes": _memory(),
        "gpus": [
            found
            for one in sorted(NVIDIA.glob("*/information"))
            if (found := _entry(one, "Model")) is not None
        ],
    }


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory() -> int | None:
    """Linux gives kilobytes of 1024 bytes, as "16303428 kB"."""
    number, _, unit = (_entry(MEMORY, "MemTotal") or "").partition(" ")
    return int(number) * 1024 if number.isdecimal() and unit == "kB" else None


def _entry(path: Path, name: str) -> str | None:
    """The value of the first line "name : value"; None where there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), None)
