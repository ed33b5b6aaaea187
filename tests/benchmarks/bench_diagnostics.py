"""What the diagnostics cost beside the passes that take second moments: share of a trial's time.

Trials with and without diagnostics take turns, on processor time, so that a busy machine weighs
on both alike.
"""

import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks.row import Row
from trainables.config import TrialConfig
from trainables.low_rank import moments
from trainables.trainer import SequentialTrainer

REPEATS = 3
PARAMS: dict[str, Any] = {
    "data.classes": 60,
    "data.tasks": 10,
    "data.train_per_class": 20,
    "optim.epochs": 5,
    "optim.batch_size": 32,
}


def rows() -> list[Row]:
    """One row a method with diagnostics."""
    return [_row(method) for method in ("inflora", "sd_lora", "sequential_lora")]


def _row(method: str) -> Row:
    on, off = [], []
    for _ in range(REPEATS):
        on.append(_seconds(method, True))
        off.append(_seconds(method, False))
    # Of a trial: all of it but what it spends on second moments.
    costs = statistics.median(total - passes for total, passes in on)
    without = statistics.median(total - passes for total, passes in off)
    share = (costs - without) / statistics.median(total for total, _ in on)
    passes = statistics.median(passes for _, passes in on)
    note = f"moment passes {passes:.1f} s of {statistics.median(t for t, _ in on):.1f} s"
    return Row(f"diagnostics, share of a trial ({method})", share, 0.03, note)


def _seconds(method: str, diagnostics: bool) -> tuple[float, float]:
    """Processor seconds of a trial and, of these, in second moments."""
    # InfLoRA needs the moments itself; the others take them for the diagnosis only.
    user = "methods.inflora" if method == "inflora" else "low_rank.update_watch"
    module = importlib.import_module(f"trainables.{user}")
    spent = 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal spent
        start = time.process_time()
        found = moments.second_moments(*arguments)
        spent += time.process_time() - start
        return found

    original: Callable[..., Any] = module.second_moments
    module.second_moments = timed  # type: ignore[attr-defined]
    try:
        params = {**PARAMS, "method.name": method, "diagnostics": diagnostics}
        trainer = SequentialTrainer(TrialConfig.from_params(params))
        start = time.process_time()
        while not trainer.done:
            trainer.train_task()
        return time.process_time() - start, spent
    finally:
        module.second_moments = original  # type: ignore[attr-defined]
