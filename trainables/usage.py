"""What a task costs: seconds between steps, bytes of checkpoint, device and process."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Clock:
    """Seconds between laps, after waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> float:
        """Ends a lap; laps of a name add up to time/`name`_seconds, which it returns."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        key = f"time/{name}_seconds"
        self.seconds[key] = self.seconds.get(key, 0.0) + elapsed
        return self.seconds[key]


def memory(state: Any, device: torch.device) -> dict[str, float]:
    """memory/… in bytes: of a checkpoint that holds `state`, the device's peak, the process."""
    values = {"memory/checkpoint_bytes": float(_tensor_bytes(state))}
    if device.type == "cuda":
        values["memory/peak_device_bytes"] = float(torch.cuda.max_memory_allocated(device))
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text(encoding="ascii").split()[1])
        values["memory/host_rss_bytes"] = float(pages * os.sysconf("SC_PAGE_SIZE"))
    return values


def _tensor_bytes(state: Any) -> int:
    """Size of all tensors in nested dicts and lists, in bytes."""
    total, left = 0, [state]
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            total += value.nbytes
        elif isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)
    return total
