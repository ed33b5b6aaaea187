"""What a study was run with: package versions, commit, host."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from study.ledger import Record
from study.planning import Plan
from study.ranges import text

PACKAGES = ("low-rank-continual-study", "torch", "timm", "ray", "optuna", "mlflow", "numpy")


def opening_records(plan: Plan, data: Mapping[str, str]) -> list[Record]:
    """The first records of a ledger: the study and its cells; `data` holds hashes of splits."""
    about = {"version": 1, "name": plan.spec.name, "question": plan.spec.question}
    return [{"kind": "study", **about, **_session(plan, data)}, *_cells(plan)]


def resuming_records(plan: Plan, data: Mapping[str, str], before: Sequence[Record]) -> list[Record]:
    """The first records of a later session: what it runs with, and cells that are new or changed.

    `before` is the ledger so far.
    """
    known = {
        one["cell"]: {key: value for key, value in one.items() if key != "time"}
        for one in before
        if one["kind"] == "cell"
    }
    cells = [one for one in _cells(plan) if known.get(one["cell"]) != json.loads(json.dumps(one))]
    return [{"kind": "resumed", **_session(plan, data)}, *cells]


def _session(plan: Plan, data: Mapping[str, str]) -> Record:
    return {
        "spec": plan.spec.to_plain(),
        "versions": _versions(),
        "commit": _commit(),
        "host": platform.node(),
        "chance": plan.chance,
        "data": dict(data),
    }


def _cells(plan: Plan) -> list[Record]:
    return [
        {
            "kind": "cell",
            "cell": cell.id,
            "key": dict(cell.key),
            "fixed": dict(cell.fixed),
            "search": {key: text(one, cell.conditions.get(key)) for key, one in cell.space.items()},
            "tasks": cell.tasks,
            "search_tasks": cell.search_tasks,
            "seeds": list(cell.seeds),
            "tuned_in": cell.tuned_in,
        }
        for cell in plan.cells
    ]


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
