"""What a study was run with: package versions, commit, host."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

from study.ledger import Record
from study.planning import Plan
from study.ranges import text

PACKAGES = ("low-rank-continual-study", "torch", "timm", "ray", "optuna", "mlflow", "numpy")


def opening_records(plan: Plan, data: Mapping[str, str]) -> list[Record]:
    """The first records of a ledger: the study and its cells; `data` holds hashes of splits."""
    study = {
        "kind": "study",
        "version": 1,
        "name": plan.spec.name,
        "question": plan.spec.question,
        "spec": plan.spec.to_plain(),
        "versions": _versions(),
        "commit": _commit(),
        "host": platform.node(),
        "chance": plan.chance,
        "data": dict(data),
    }
    cells = [
        {
            "kind": "cell",
            "cell": cell.id,
            "key": dict(cell.key),
            "fixed": dict(cell.fixed),
            "search": {key: text(one) for key, one in cell.space.items()},
        }
        for cell in plan.cells
    ]
    return [study, *cells]


def _versions() -> dict[str, str]:
    """Versions of the packages that matter, of those installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit of this source tree, "-dirty" if it was changed; None outside of git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
