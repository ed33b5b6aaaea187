"""What a study runs with: machine, package versions, commit; without importing torch."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CPUS, MEMORY = Path("/proc/cpuinfo"), Path("/proc/meminfo")
NVIDIA = Path("/proc/driver/nvidia/gpus")
PROJECT = "low-rank-continual-study"
# Packages whose versions must agree on all nodes of a cluster, and what else is recorded.
AGREEING = ("torch", "timm", "ray", "numpy")
RECORDED = (PROJECT, "torch", "timm", "ray", "optuna", "mlflow", "numpy")
# Folders of source whose files decide what a trial does.
SOURCES = ("study", "trainables", "search_spaces")


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
            found for gpu in sorted(NVIDIA.glob("*/information")) if (found := _entry(gpu, "Model"))
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


def recorded_versions() -> dict[str, str]:
    """Versions of the packages that matter, of those installed."""
    return {"python": platform.python_version(), **_installed(RECORDED)}


def package_versions() -> dict[str, str]:
    """Versions of the packages that must agree, of those installed."""
    return {package: public(version) for package, version in _installed(AGREEING).items()}


def public(version: str) -> str:
    """A version without the part after "+", which tells a CPU build from one for CUDA."""
    return version.partition("+")[0]


def project_version() -> str:
    """The version of the installed project, with a hash over the source that is in use."""
    found = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*.py")):
            found.update(f"{path.relative_to(root).as_posix()}\0".encode())
            found.update(path.read_bytes())
    version = _installed((PROJECT,)).get(PROJECT, "not installed")
    return f"{version}, source {found.hexdigest()[:12]}"


def _installed(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def commit() -> str | None:
    """The commit of this source tree, "-dirty" if it was changed; None outside of git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
