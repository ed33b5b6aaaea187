"""Prints the benchmarks as a table of ratios, each measured in one run: see --help.

A benchmark is a file bench_*.py here with a function `rows` that gives `Row`s, all at once or as
they come, and NEEDS_GPU where it has no meaning on a CPU; its first lines say what it times. Rows
are kept as JSON.

Environment: BENCH_METHODS (default "inflora,sd_lora"), BENCH_NETWORK (ViT-B/16), BENCH_BATCH (8, on
a GPU 128), BENCH_REPEATS (3), BENCH_THREADS (1), and what a benchmark's own first lines name.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.benchmarks import measuring
from tests.benchmarks.workers import say

FOLDER = Path(__file__).parent
# Where results are kept; git ignores it.
RESULTS = Path(__file__).parents[2] / "results" / "benchmarks"
# A machine that trains needs none of these; benchmarks that do are then not measured.
OPTIONAL = ("ray", "optuna", "mlflow")


def main(arguments: list[str] | None = None) -> int:
    """Runs all benchmarks, or those named."""
    files = FOLDER.glob("bench_*.py")
    names = sorted(path.stem.removeprefix("bench_") for path in files)
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {names}; default all")
    default = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    parser.add_argument("--json", type=Path, default=default, help=f"default {RESULTS}/TIME.json")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(names))
    if unknown:
        parser.error(f"a benchmark must be one of {names}, but got {unknown[0]!r}.")
    kept: list[dict[str, Any]] = []
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    for name in chosen.names or names:
        # Before `rows`: it may measure all at once.
        start, before = time.perf_counter(), measuring.load()
        for row in rows_of(name):
            on = {**measuring.describe(), "load": before}
            seconds = round(time.perf_counter() - start)
            if not kept or kept[-1]["benchmark"] != name:
                say(f"{name} on {on}")
                kept.append({"benchmark": name, "machine": on, "seconds": seconds, "rows": []})
            say(row.line)
            kept[-1]["seconds"] = seconds
            kept[-1]["rows"].append({**asdict(row), "verdict": row.verdict})
            # After each, so that a run that is ended early keeps what it has.
            chosen.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    say(f"kept in {chosen.json}")
    return 0


def rows_of(name: str) -> Iterable[measuring.Row]:
    """The rows of a benchmark, or one that says why it is not measured here."""
    module = load(name)
    if module is None:
        return [measuring.Row(name, None, note=f"needs all of {', '.join(OPTIONAL)}")]
    if getattr(module, "NEEDS_GPU", False) and measuring.device().type != "cuda":
        return [measuring.Row(name, None, note="needs a GPU")]
    rows: Iterable[measuring.Row] = module.rows()
    return rows


def load(name: str) -> ModuleType | None:
    """The file of a benchmark, None if it needs a package that is not installed."""
    try:
        return importlib.import_module(f"tests.benchmarks.bench_{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        return None


if __name__ == "__main__":
    sys.exit(main())
