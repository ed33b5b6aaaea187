"""`--once`: one configuration in this process, without Ray; the records are those of a study."""

import contextlib
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from study.interrupts import Interrupts, catch_interrupts
from study.ledger import Ledger, Record
from study.mlflow_links import browse_command, default_uri
from study.planning import Plan, PlannedTrial
from study.preparation import Split, sizes_by_hash
from study.probe import open_trainer, use_threads
from study.provenance import opening_records
from study.terminal import say
from study.tracker import Tracker, missing_in_mlflow

if TYPE_CHECKING:
    from study.probe import SequentialTrainer

TRACKING_SECONDS = 60
CHECKPOINT = "checkpoint"


def single_trial(plan: Plan) -> PlannedTrial:
    """The one trial of a plan that searches nothing: the first seed, validation images.

    Raises:
        ValueError: if the plan has several cells.
    """
    if len(plan.cells) > 1:
        cells = "".join(f"\n  {cell.id}" for cell in plan.cells)
        raise ValueError(
            f"--once runs one configuration, but {plan.spec.source} has {len(plan.cells)} cells; "
            f"narrow it down with --set, say --set method.name=inflora:{cells}"
        )
    (cell,) = plan.cells
    return cell.trial("search", {}, cell.search_seed)


def run_once(plan: Plan, output: Path, splits: Mapping[str, Split]) -> int:
    """Trains the single trial of a plan and records it in `output`, with MLflow.

    The newest checkpoint is in `output`/checkpoint. Returns the exit code of `study/run.py`.
    """
    trial = single_trial(plan)
    with catch_interrupts() as interrupts, contextlib.ExitStack() as stack:
        tracker = Tracker(output, default_uri(output))
        stack.callback(_close, tracker, output)
        ledger = stack.enter_context(contextlib.closing(Ledger(output / "ledger.jsonl")))

        def record(one: Record) -> None:
            one.setdefault("time", round(time.time(), 3))
            ledger.append(one)

        hashes = {name: one.sha256 for name, one in splits.items()}
        for one in opening_records(plan, hashes, sizes_by_hash(splits)):
            if one["kind"] == "study":
                one["once"] = True
            record(one)
        start = time.monotonic()
        status = "interrupted"
        try:
            status = _train(plan, trial, output, record, interrupts)
        finally:
            ended = "interrupted" if status == "interrupted" else "completed"
            wall = time.monotonic() - start
            record({"kind": "finished", "status": ended, "wall_seconds": wall})
    if status == "interrupted":
        return interrupts.exit_code or 1
    return 0 if status == "completed" else 1


def _train(
    plan: Plan,
    trial: PlannedTrial,
    output: Path,
    record: Callable[[Record], None],
    interrupts: Interrupts,
) -> str:
    """Trains task by task; returns the status of the trial's end."""
    import torch

    resources = plan.spec.resources
    about = {"cell": trial.cell, "role": trial.role, "params": dict(trial.params), "searched": {}}
    record({"kind": "trial", "trial": trial.id, **about, "seed": trial.seed, "tasks": trial.tasks})
    end = {"status": "interrupted", "error": None, "reason": None, "retries": 0}
    threads = use_threads(resources.cpu)
    try:
        trainer = open_trainer(trial.params, resources.gpu != 0)
        _tasks(trainer, trial, output, record, interrupts)
        if trainer.tasks_seen == trial.tasks:
            end["status"] = "completed"
    except (FloatingPointError, torch.OutOfMemoryError) as error:
        diverged = isinstance(error, FloatingPointError)
        end |= {"status": "failed", "reason": "diverged" if diverged else "out_of_memory"}
        end["error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        say(f"failed: {end['error']}", error=True)
    finally:
        use_threads(threads)
        record({"kind": "end", "trial": trial.id, **end})
    return str(end["status"])


def _tasks(
    trainer: "SequentialTrainer",
    trial: PlannedTrial,
    output: Path,
    record: Callable[[Record], None],
    interrupts: Interrupts,
) -> None:
    split = "val" if trial.role == "search" else "test"
    say(f"{'task':>4}  {split + '/accuracy':>12}  {'average':>8}  {'seconds':>8}")
    while trainer.tasks_seen < trial.tasks and not interrupts:
        start = time.monotonic()
        result = trainer.train_task()
        metrics = result.metrics
        say(
            f"{result.task:>4}  {metrics[f'{split}/accuracy']:>12.4f}  "
            f"{metrics[f'{split}/average_anytime_accuracy']:>8.4f}  "
            f"{time.monotonic() - start:>8.1f}"
        )
        row = {"metrics": metrics, "accuracy_row": list(result.accuracy_row)}
        place = {"host": platform.node(), "device": trainer.device_name}
        record({"kind": "task", "trial": trial.id, "task": result.task, **row, **place})
        trainer.save(output / CHECKPOINT)
        saved = {"trial": trial.id, "task": result.task, "path": CHECKPOINT}
        record({"kind": "checkpoint", **saved})


def _close(tracker: Tracker, output: Path) -> None:
    if not tracker.close(TRACKING_SECONDS):
        say(missing_in_mlflow(tracker.failure, output))
    command, link = browse_command(output).splitlines()
    say(f"Records: {output / 'ledger.jsonl'}\nMLflow: {command}\n  then open {link}")
