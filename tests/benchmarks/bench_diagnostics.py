"""What is only measured: its share of a trial's processor time, which a busy machine leaves alone.

The diagnostics beside the passes that take second moments: trials with and without them take turns.
The read-out at the end of a confirmation: within one confirmation over 50 tasks of icons.
"""

import importlib
import statistics
import time
from typing import Any
from unittest import mock

from tests.benchmarks.measuring import Row
from trainables.config import TrialConfig
from trainables.evaluation import Evaluator
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
# All training images of as many classes as the default study has, its tasks, five epochs.
CONFIRMATION: dict[str, Any] = {
    "data.evaluation": "test",
    "data.classes": 100,
    "data.tasks": 50,
    "optim.epochs": 5,
}
READ_OUT = 0.05


def rows() -> list[Row]:
    """One row a method with diagnostics, and one for the read-out of each branch method."""
    return [
        *(_row(method) for method in ("inflora", "sd_lora", "sequential_lora")),
        *(_read_out(method) for method in ("inflora", "sd_lora")),
    ]


def _row(method: str) -> Row:
    turns = [(seconds(method, True), seconds(method, False)) for _ in range(REPEATS)]
    on, off = zip(*turns, strict=True)
    # Of a trial: all of it but what it spends on second moments.
    costs, without = (statistics.median(own - spent for own, spent in runs) for runs in (on, off))
    total, passes = (statistics.median(part) for part in zip(*on, strict=True))
    note = f"moment passes {passes:.1f} s of {total:.1f} s"
    share = (costs - without) / total
    return Row(f"diagnostics, share of a trial ({method})", share, 0.03, note)


def _read_out(method: str) -> Row:
    fit, spent = Evaluator.fit_read_out, 0.0

    def timed(evaluator: Evaluator) -> Any:
        nonlocal spent
        start = time.process_time()
        found = fit(evaluator)
        spent += time.process_time() - start
        return found

    start = time.process_time()
    with mock.patch.object(Evaluator, "fit_read_out", timed):
        trainer = SequentialTrainer(
            TrialConfig.from_params({**CONFIRMATION, "method.name": method})
        )
        while not trainer.done:
            trainer.train_task()
    total = time.process_time() - start
    tasks, epochs = CONFIRMATION["data.tasks"], CONFIRMATION["optim.epochs"]
    name = f"read-out, share of {tasks} tasks at {epochs} epochs ({method})"
    return Row(name, spent / total, READ_OUT, f"{spent:.1f} s of {total:.1f} s")


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
