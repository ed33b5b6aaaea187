"""Prints the benchmarks as a table of ratios, each measured in one run: see --help.

A benchmark is a file bench_*.py here with a function `rows() -> list[Row]`.
"""

import argparse
import importlib
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from tests.benchmarks.row import Row


def main() -> int:
    """Runs all benchmarks, or those named."""
    files = Path(__file__).parent.glob("bench_*.py")
    names = sorted(path.stem.removeprefix("bench_") for path in files)
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {names}; default all")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(names))
    if unknown:
        parser.error(f"a benchmark must be one of {names}, but got {unknown[0]!r}.")
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.get_device_name()}"
    write = sys.stdout.write
    write(f"torch {torch.__version__} on {machine}\n")
    found: list[Row] = []
    for name in arguments.names or names:
        for row in importlib.import_module(f"tests.benchmarks.bench_{name}").rows():
            verdict = "ok" if row.ratio <= row.limit else "OVER"
            write(f"{row.name:<58} {row.ratio:8.3f}  limit {row.limit:g}  {verdict}  {row.note}\n")
            sys.stdout.flush()
            found.append(row)
    if arguments.json:
        rows = {"machine": machine, "rows": [asdict(row) for row in found]}
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
