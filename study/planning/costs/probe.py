"""What a trial costs, measured: the only file of the study that trains in its own process."""

import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.config import TrialConfig

if TYPE_CHECKING:
    from trainables.trainer import SequentialTrainer


# One task says nothing of what grows from task to task.
TASKS = 2
# Enough to tell what an image costs in an evaluation from what a pass costs.
EVALUATED = 2048


@dataclass(frozen=True)
class Load:
    """Images of a task: `new` ones, `epoch` in each epoch, `held_out` of all tasks up to it.

    `diagnosed` ones go through the network for what is only measured.
    """

    new: int
    epoch: int
    held_out: int
    diagnosed: int = 0


@dataclass(frozen=True)
class Measured:
    """The first tasks of one trial.

    `metrics` and `record_bytes` (of a line of the ledger) are those of each task, `loads` those
    of all tasks of the stream; `evaluated` is a number of images and the seconds of an evaluation
    on as many. `device_bytes` is the peak on the device in each task with all
    that its driver takes, of `device_total` bytes; both are empty on a CPU.
    """

    setup_seconds: float
    metrics: tuple[Mapping[str, float], ...]
    record_bytes: tuple[int, ...]
    loads: tuple[Load, ...]
    evaluated: tuple[int, float]
    device_bytes: tuple[int, ...] = ()
    device_total: int | None = None


def open_trainer(params: Mapping[str, Any], gpu: bool) -> "SequentialTrainer":
    """Builds the trainer of flat `params`, on a GPU where one is wanted and there is one."""
    import torch

    from trainables.trainer import SequentialTrainer

    device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
    return SequentialTrainer(TrialConfig.from_params(params), device)


def use_threads(cpu: float) -> int:
    """Gives torch as many threads as a trial on `cpu` cores has; returns what it had."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(cpu)))
    return before


def loads_of(params: Mapping[str, Any]) -> tuple[Load, ...]:
    """The images of every task of a trial; none of them is looked at."""
    return _loads(open_trainer(params, gpu=False))


def measure(params: Mapping[str, Any], cpu: float, gpu: bool, tasks: int = TASKS) -> Measured:
    """Trains the first tasks of a trial and says what they cost.

    Raises:
        FloatingPointError: if these settings diverge.
        torch.OutOfMemoryError: if the device has too little memory.
    """
    import torch

    # So that seconds of imports do not count.
    importlib.import_module("trainables.trainer")
    threads = use_threads(cpu)
    try:
        start = time.perf_counter()
        trainer = open_trainer(params, gpu)
        setup = time.perf_counter() - start
        beside, total = _driver_memory(gpu)
        metrics: list[Mapping[str, float]] = []
        sizes, peaks = [], []
        while not trainer.done and len(metrics) < tasks:
            result = trainer.train_task()
            metrics.append(result.metrics)
            row = list(result.accuracy_row)
            sizes.append(len(json.dumps({"metrics": result.metrics, "accuracy_row": row})))
            if total is not None:
                peaks.append(beside + torch.cuda.max_memory_reserved())
        return Measured(
            setup_seconds=setup,
            metrics=tuple(metrics),
            record_bytes=tuple(sizes),
            loads=_loads(trainer),
            evaluated=trainer.time_evaluation(EVALUATED),
            device_bytes=tuple(peaks),
            device_total=total,
        )
    finally:
        use_threads(threads)


def last_metrics(params: Mapping[str, Any], cpu: float, gpu: bool) -> Mapping[str, float] | str:
    """Trains a whole trial; its metrics after the last task, or why it came to no end."""
    import torch

    threads = use_threads(cpu)
    metrics: Mapping[str, float] = {}
    try:
        trainer = open_trainer(params, gpu)
        while not trainer.done:
            metrics = trainer.train_task().metrics
    except (FloatingPointError, torch.OutOfMemoryError) as error:
        return str(error).splitlines()[0]
    finally:
        use_threads(threads)
    return metrics


def _loads(trainer: "SequentialTrainer") -> tuple[Load, ...]:
    return tuple(
        Load(task.new, task.epoch, task.held_out, task.diagnosed) for task in trainer.workload
    )


def _driver_memory(gpu: bool) -> tuple[int, int | None]:
    """Bytes of the device that are taken by others than torch's tensors, and its total."""
    import torch

    if not gpu or not torch.cuda.is_available():
        return 0, None
    free, total = torch.cuda.mem_get_info()
    return max(0, total - free - torch.cuda.memory_reserved()), total
