"""What the diagnostics cost beside the passes that take second moments: share of a trial's time.

Trials with and without diagnostics take turns, on processor time, so that a busy machine weighs
on both alike.
"""

import importlib
import statistics
import time
from typing import Any
from unittest import mock

from tests.benchmarks.measuring import Row
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
    turns = [(seconds(method, True), seconds(method, False)) for _ in range(REPEATS)]
    on, off = zip(*turns, strict=True)
    # Of a trial: all of it but what it spends on second moments.
    costs, without = (statistics.median(own - spent for own, spent in runs) for runs in (on, off))
    total, passes = (statistics.median(part) for part in zip(*on, strict=True))
    note = f"moment passes {passes:.1f} s of {total:.1f} s"
    share = (costs - without) / total
    return Row(f"diagnostics, share of a trial ({method})", share, 0.03, note)


def seconds(method: str, diagnostics: bool, **changes: Any) -> tuple[float, float]:
    """Processor seconds of a trial and, of these, in second moments."""
    # InfLoRA needs the moments itself; the others take them for the diagnosis only.
    user = "methods.inflora.method" if method == "inflora" else "low_rank.update_watch"
    spent = 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal spent
        start = time.process_time()
        means = moments.second_moments(*arguments)
        spent += time.process_time() - start
        return means

    params = {**PARAMS, "method.name": method, "diagnostics": diagnostics, **changes}
    with mock.patch.object(importlib.import_module(f"trainables.{user}"), "second_moments", timed):
        trainer = SequentialTrainer(TrialConfig.from_params(params))
        start = time.process_time()
        while not trainer.done:
            trainer.train_task()
        return time.process_time() - start, spent
