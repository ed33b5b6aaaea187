"""Versions that must agree on all machines of a study: the project's and those of packages."""

import hashlib
import importlib.metadata
from pathlib import Path

PROJECT = "low-rank-continual-study"
PACKAGES = ("torch", "timm", "ray", "numpy")
# Folders of source whose files decide what a trial does.
SOURCES = ("study", "trainables", "search_spaces")


def project_version() -> str:
    """The version of the installed project, with a hash over the source that is in use."""
    found = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*.py")):
            found.update(f"{path.relative_to(root).as_posix()}\0".encode())
            found.update(path.read_bytes())
    try:
        version = importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    return f"{version}, source {found.hexdigest()[:12]}"


def package_versions() -> dict[str, str]:
    """Versions of the packages that must agree, of those installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = public(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def public(version: str) -> str:
    """A version without the part after "+", which tells a CPU build from one for CUDA."""
    return version.partition("+")[0]
