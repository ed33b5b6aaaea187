"""`--once`: one configuration in this process, without Ray; the records are those of a study."""

import contextlib
import platform
import time
from collections.abc import Callable, Mapping

from study.commands.session import (
    LedgerWatch,
    catch_interrupts,
    lost_output,
    saved,
    tracked,
)
from study.errors import LostError, MistakeError
from study.ledger import History, Journal, Ledger, StudyFolder, file_sizes, is_full, records
from study.planning import Plan, PlannedTrial
from study.planning.costs import open_trainer, use_threads
from study.planning.data import Split, data_warnings, late_warnings, sizes_by_hash
from study.planning.openings import opening_records
from study.system import keep_output, say


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


def run_once(plan: Plan, folder: StudyFolder, splits: Mapping[str, Split]) -> int:
    """Trains the single trial of a plan and records it in `folder`, with MLflow.

    The newest checkpoint is in its folder `checkpoint`. Where the ledger is deleted or renamed
    meanwhile, this is said, the records are saved beside it, and the task in progress is the last.
    Returns the exit code of `study/run.py`.

    Raises:
        MistakeError: if another process has the folder, or it takes nothing more.
    """
    try:
        return _run(plan, folder, splits)
    except LostError as error:
        say(f"error: {error}", error=True)
        return 1
    except (OSError, RuntimeError) as error:
        if not is_full(error):
            raise
        reason = " ".join(str(error).split())
        raise MistakeError(
            f"{folder.path} takes nothing more ({reason}): make room and start again, with another "
            f"--output where it has records."
        ) from error


def _run(plan: Plan, folder: StudyFolder, splits: Mapping[str, Split]) -> int:
    trial = single_trial(plan)

    def tell() -> None:
        say(f"{folder.ledger} is not there any more: this task is the last.", error=True)

    with (
        folder.held_anew(),
        catch_interrupts() as interrupts,
        tracked(plan.spec, folder) as pages,
        contextlib.closing(Ledger(folder.ledger)) as ledger,
        (lost := LedgerWatch(ledger)).telling(tell),
    ):
        keep_output(folder.console_log)
        journal = Journal(ledger.append, History(str(folder.ledger)))
        hashes = {name: split.sha256 for name, split in splits.items()}
        for record in opening_records(plan, hashes, sizes_by_hash(splits), once=True):
            journal.append(record)
        journal.warn(data_warnings(splits))
        start = time.monotonic()
        status: records.Status = "interrupted"
        try:
            status = _train(plan, trial, folder, journal, lambda: bool(interrupts) or lost())
        finally:
            wall = time.monotonic() - start
            ended = status != "interrupted"
            journal.warn([*late_warnings(plan, splits), *lost_output(folder)])
            journal.append(records.finished("completed" if ended else "interrupted", wall))
            if ledger.is_lost():
                raise saved(ledger, folder, "--report")
            say(f"Records: {folder.ledger}")
    for line in pages:
        say(line)
    if status == "interrupted":
        return interrupts.exit_code or 1
    return 0 if status == "completed" else 1


def _train(
    plan: Plan,
    trial: PlannedTrial,
    folder: StudyFolder,
    journal: Journal,
    stopped: Callable[[], bool],
) -> records.Status:
    """Trains task by task; returns the status of the trial's end."""
    import torch

    resources = plan.spec.resources
    journal.append(trial.record())
    status: records.Status = "interrupted"
    message = reason = None
    threads = use_threads(resources.cpu)
    try:
        seen = _tasks(trial, resources.gpu != 0, folder, journal, stopped)
        if seen == trial.tasks:
            status = "completed"
    except (FloatingPointError, torch.OutOfMemoryError) as error:
        status = "failed"
        reason = "diverged" if isinstance(error, FloatingPointError) else "out_of_memory"
        message = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        say(f"failed: {message}", error=True)
    finally:
        use_threads(threads)
        journal.append(records.end(trial.id, status, message, reason))
    return status


def _tasks(
    trial: PlannedTrial,
    gpu: bool,
    folder: StudyFolder,
    journal: Journal,
    stopped: Callable[[], bool],
) -> int:
    """Trains task by task until the last one or a stop; returns how many were seen."""
    trainer = open_trainer(trial.params, gpu)
    split = "val" if trial.role == "search" else "test"
    say(f"{'task':>4}  {split + '/accuracy':>12}  {'average':>8}  {'seconds':>8}")
    while trainer.tasks_seen < trial.tasks and not stopped():
        start = time.monotonic()
        result = trainer.train_task()
        metrics = result.metrics
        say(
            f"{result.task:>4}  {metrics[f'{split}/accuracy']:>12.4f}  "
            f"{metrics[f'{split}/average_anytime_accuracy']:>8.4f}  "
            f"{time.monotonic() - start:>8.1f}"
        )
        host, device = platform.node(), trainer.device_name
        row = result.accuracy_row
        journal.append(records.task(trial.id, result.task, metrics, row, host, device))
        if not folder.ledger.exists():
            # Nothing grows where a study has been: its records are saved elsewhere.
            continue
        place = folder.checkpoint
        trainer.save(place)
        files = file_sizes(place)
        journal.append(records.checkpoint(trial.id, result.task, place.name, files))
    return trainer.tasks_seen
