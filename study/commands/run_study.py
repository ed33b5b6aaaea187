"""One run of a study from its first record to the report, whatever happens in between."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from study.commands.display import Display
from study.commands.session import (
    Beside,
    Interrupts,
    LedgerWatch,
    catch_interrupts,
    lost_output,
    saved,
    tracked,
)
from study.commands.tables import summary_table
from study.engine import export_models, on_cluster
from study.errors import LostError, MistakeError
from study.ledger import (
    History,
    Journal,
    Ledger,
    Record,
    StorageError,
    StudyFolder,
    StudyRecords,
    check_paths,
    is_full,
    read_history,
    records,
    storage_error,
)
from study.planning import Plan, extended_plan
from study.planning.data import (
    Split,
    check_unchanged,
    data_splits,
    data_warnings,
    late_warnings,
    pinned,
    sizes_by_hash,
)
from study.planning.openings import opening_records, resuming_records
from study.report import rewritten
from study.search import PastTrials
from study.system import keep_output, output_is_lost, own_command, say


def begin_study(
    plan: Plan, folder: StudyFolder, splits: Mapping[str, Split], estimate: Record | None = None
) -> int:
    """Runs a plan, keeps its records, and shows what came out, also where the engine fails.

    Everything goes to `folder`; `splits` are those of its data, `estimate` is the record of what
    the study should cost. Returns the exit code of `study/run.py`.

    Raises:
        MistakeError: if the cluster cannot run one trial, or another process runs this study.
    """
    with folder.held_anew():
        hashes = {name: split.sha256 for name, split in splits.items()}
        opening = opening_records(plan, hashes, sizes_by_hash(splits))
        opening += [] if estimate is None else [estimate]
        history = History(str(folder.ledger))
        return _session(plan, folder, history, PastTrials(history, plan), opening, splits)


def resume_study(folder: StudyFolder, overrides: Sequence[str]) -> int:
    """Goes on with the study of a folder, as `begin_study`; `overrides` are those of --set.

    Raises:
        MistakeError: as `begin_study`; if an override or the data would change what trials mean;
            or if the folder's ledger cannot be gone on with.
    """
    with folder.held():
        folder.mark_latest(new=False)
        try:
            history = read_history(folder.ledger)
            check_paths(folder.path, history.places())
            plan = extended_plan(history, overrides)
            splits = data_splits(plan, on_cluster)
            hashes = {name: split.sha256 for name, split in splits.items()}
            check_unchanged(history, hashes)
            plan = pinned(plan, hashes)
            past = PastTrials(history, plan)
        except (ValueError, OSError) as error:
            raise MistakeError(str(error)) from error
        opening = resuming_records(plan, hashes, history, sizes_by_hash(splits))
        return _session(plan, folder, history, past, opening, splits)


def _session(
    plan: Plan,
    folder: StudyFolder,
    history: History,
    past: PastTrials,
    opening: Sequence[Record],
    splits: Mapping[str, Split],
) -> int:
    """Runs a session whose first records are `opening`, then the warnings of the data."""
    start = time.monotonic()
    problem: LostError | None = None
    study: StudyRecords | None = None
    pages: list[str] = []
    keep_output(folder.console_log)
    own_report = ["--report", str(folder.path.resolve())]
    rewriting = functools.partial(own_command, "study.run", own_report)
    with catch_interrupts() as interrupts:
        console = Console()
        try:
            ledger = Ledger(folder.ledger, history.whole_bytes)
        except OSError as error:
            raise MistakeError(str(storage_error(folder, error))) from error
        with contextlib.suppress(LostError), tracked(plan.spec, folder) as pages:
            try:
                with contextlib.closing(ledger), rewritten(rewriting):
                    _run(plan, folder, ledger, console, interrupts, history, past, opening, splits)
            except LostError as error:
                # At once: what follows may take a while, or not come to its end.
                say(f"error: {error}", error=True)
                problem = error
                raise
            finally:
                study = _show(folder, history, console, problem)
        say(f"Total time: {time.monotonic() - start:.0f} s")
    if study is not None:
        place = StudyFolder(problem.saved) if problem and problem.saved else folder
        pages.append(f"Report: {place.short / 'report' / 'report.html'}")
    missing = [] if problem or interrupts else history.without_result()
    for cell in missing:
        say(f"no result for {cell}: see the failed trials in {folder.ledger}")
    for line in pages:
        say(line)
    if problem is not None:
        return 1
    if interrupts:
        again = folder.command("--resume")
        say(
            f"Interrupted: the report shows what there is. Go on with: {again}",
            error=output_is_lost(),
        )
        return interrupts.exit_code
    return 1 if missing or study is None else 0


def _run(
    plan: Plan,
    folder: StudyFolder,
    ledger: Ledger,
    console: Console,
    interrupts: Interrupts,
    history: History,
    past: PastTrials,
    opening: Sequence[Record],
    splits: Mapping[str, Split],
) -> None:
    """Runs the plan and brings every record to the ledger, the history and the display.

    Raises:
        MistakeError: if the cluster cannot run one trial.
        LostError: if the study's folder takes nothing more or is gone, or a part of Ray has died.
    """

    def write(record: Record) -> Record:
        try:
            return ledger.append(record)
        except OSError as error:
            raise storage_error(folder, error) from error

    start = time.monotonic()
    lost = LedgerWatch(ledger)
    with Display(plan, history, console) as display:
        journal = Journal(write, history, [display.tell])
        for record in opening:
            journal.append(record)
        journal.warn(data_warnings(splits))
        complete = False
        try:
            # Seconds of imports: by now the table is there.
            from study.engine import run_study

            def stopped() -> bool:
                return bool(interrupts) or lost()

            complete = run_study(plan, folder, journal, past, stopped)
            if complete and plan.spec.export != "none":
                Beside("Writing merged weights").tried(export_models, folder, journal, stopped)
        except SystemExit:
            # Ray's way to end while it is starting.
            if not interrupts:
                raise
        except (OSError, RuntimeError, MistakeError) as error:
            # Where Ray's own folder is full, say.
            if not is_full(error):
                raise
            raise storage_error(folder, error) from error
        finally:
            wall = time.monotonic() - start
            # On a full disk the ledger ends without it.
            with contextlib.suppress(StorageError):
                journal.warn([*late_warnings(plan, splits), *lost_output(folder)])
                journal.append(records.finished("completed" if complete else "interrupted", wall))
            if ledger.is_lost():
                raise saved(ledger, folder)


def _show(
    folder: StudyFolder, history: History, console: Console, problem: LostError | None
) -> StudyRecords | None:
    """Writes the report and shows its summary; None where there is no report, with a message.

    `problem` is what the study was stopped by, which has been said.
    """
    if problem is not None and problem.saved is not None:
        folder = StudyFolder(problem.saved)
    if isinstance(problem, StorageError) and history.study is None:
        return None
    is_known = is_full if isinstance(problem, StorageError) else None
    study = Beside(f"Writing the report (everything is in {folder.ledger})", is_known).tried(
        _write, folder, history
    )
    if study is not None:
        Beside("The summary").tried(_summary, study, console)
    return study


def _write(folder: StudyFolder, history: History) -> StudyRecords:
    from study.commands.recorded import declared_later
    from study.report import write_study

    size = folder.ledger.stat().st_size
    study = dataclasses.replace(history.study_records(), ledger_bytes=size)
    write_study(study, folder.report, declared_later(study))
    return study


def _summary(study: StudyRecords, console: Console) -> None:
    from study.analysis.summary import summarise
    from study.report import estimate_lines, text_rows

    chance = study.study.chance
    guess = "" if chance is None else f" (guessing reaches {chance:.1%})"
    cells = summarise(study)
    settings = [cell.setting for cell in cells]
    title = f"Accuracy on test images{guess}"
    console.print(summary_table(text_rows(cells), settings, title))
    for line in estimate_lines(study):
        say(line)
