"""What a study was run with: package versions, commit, host."""

import dataclasses
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from study import published
from study.ledger import VERSION, Record
from study.machine import machine
from study.planning import Cell, Plan
from study.ranges import text

Sizes: TypeAlias = Mapping[str, Mapping[str, int]]
NO_SIZES: Sizes = MappingProxyType({})
PACKAGES = ("low-rank-continual-study", "torch", "timm", "ray", "optuna", "mlflow", "numpy")


def opening_records(plan: Plan, data: Mapping[str, str], sizes: Sizes = NO_SIZES) -> list[Record]:
    """The first records of a ledger: the study and its cells.

    `data` holds hashes of splits, `sizes` by hash their numbers of classes and images.
    """
    about = {"name": plan.spec.name, "question": plan.spec.question}
    return [{"kind": "study", **about, **_session(plan, data, sizes)}, *_cells(plan)]


def resuming_records(
    plan: Plan, data: Mapping[str, str], before: Sequence[Record], sizes: Sizes = NO_SIZES
) -> list[Record]:
    """The first records of a later session: what it runs with, and cells that are new or changed.

    `before` is the ledger so far, `data` and `sizes` are as in `opening_records`.
    """
    known = {
        one["cell"]: {key: value for key, value in one.items() if key != "time"}
        for one in before
        if one["kind"] == "cell"
    }
    cells = [one for one in _cells(plan) if known.get(one["cell"]) != json.loads(json.dumps(one))]
    return [{"kind": "resumed", **_session(plan, data, sizes)}, *cells]


def _session(plan: Plan, data: Mapping[str, str], sizes: Sizes) -> Record:
    return {
        "version": VERSION,
        "spec": plan.spec.to_plain(),
        "versions": _versions(),
        "commit": _commit(),
        "host": platform.node(),
        "machine": machine(),
        "chance": plan.chance,
        "data": dict(data),
        "splits": {sha256: dict(one) for sha256, one in sizes.items()},
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
            **_published(cell),
        }
        for cell in plan.cells
    ]


def _published(cell: Cell) -> Record:
    """Results for the cell's method, data and tasks, where there are any, for the report."""
    rows = published.results({**cell.fixed, **cell.key})
    if not rows:
        return {}
    params = cell.config("confirm", {}, cell.seeds[0]).to_params()
    # What is searched has no value yet.
    settled = {key: value for key, value in params.items() if key not in cell.space}
    return {
        "published": [
            {**dataclasses.asdict(row), "departures": list(published.departures(row, settled))}
            for row in rows
        ]
    }


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
