"""1, 2, 4 and 8 trials side by side on one GPU: images a second in sum over those of one alone.

Each trial is a process (see packing_worker.py); all start to train at the same moment. A small
network (compact_vit, 32 px) and ViT-B/16 at 224 px.

Environment: PACKING_SECONDS that each trains for (default 10).
"""

import os
import subprocess
import sys

from tests.benchmarks import machine, ours
from tests.benchmarks.row import Row

COUNTS = (1, 2, 4, 8)


def rows() -> list[Row]:
    """A row for each network and number of trials."""
    if machine.device().type != "cuda":
        names = [_name(one, count) for one in (ours.SMALL, ours.VIT) for count in COUNTS]
        return [machine.without_gpu(name) for name in names]
    seconds = float(os.environ.get("PACKING_SECONDS", "10"))
    return [row for one in (ours.SMALL, ours.VIT) for row in _rows(one, seconds)]


def _rows(network: str, seconds: float) -> list[Row]:
    found = []
    alone: float | None = None
    for count in COUNTS:
        name = _name(network, count)
        try:
            rates = side_by_side(network, count, seconds)
        except RuntimeError as error:
            found.append(Row(name, None, note=str(error)))
            continue
        total = sum(rates)
        alone = total if count == 1 else alone
        ratio = None if alone is None else total / alone
        found.append(Row(name, ratio, note=f"{total:.0f} images/s in sum"))
    return found


def side_by_side(network: str, count: int, seconds: float) -> list[float]:
    """Images a second of each of `count` trials; RuntimeError if one of them ends early."""
    command = [sys.executable, "-m", "tests.benchmarks.packing_worker", network, str(seconds)]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        for _ in range(count)
    ]
    try:
        _answers(workers)
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        return [float(answer) for answer in _answers(workers)]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _answers(workers: list["subprocess.Popen[str]"]) -> list[str]:
    found = []
    for worker in workers:
        assert worker.stdout is not None
        answer = worker.stdout.readline().strip()
        if not answer:
            raise RuntimeError("a trial ended before it was measured, such as for lack of memory.")
        found.append(answer)
    return found


def _name(network: str, count: int) -> str:
    return f"packing, {network}: {count} on one GPU / one alone"
