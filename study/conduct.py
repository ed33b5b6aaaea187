"""One run of a study from its first record to the report, whatever happens in between."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from study.display import Display
from study.extension import check_data, extended_spec
from study.forecast import compare_lines
from study.interrupts import Interrupts, catch_interrupts
from study.ledger import NAME as LEDGER
from study.ledger import Ledger, Record, iterate_ledger, read_ledger
from study.lock import only_one
from study.mlflow_links import browse_command, default_uri
from study.model_export import Winners, export_models
from study.planning import Plan, make_plan
from study.preparation import Split, data_splits, pinned, sizes_by_hash
from study.provenance import opening_records, resuming_records
from study.restore import Past
from study.rules import MistakeError
from study.storage import StorageError, resume_command, storage_error
from study.terminal import say
from study.tracker import Tracker, missing_in_mlflow

TRACKING_SECONDS = 60
# What reading a ledger, drawing and writing files can raise.
REPORT_ERRORS = (
    OSError,
    ImportError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)


def conduct(
    plan: Plan, output: Path, splits: Mapping[str, Split], estimate: Record | None = None
) -> int:
    """Runs a plan, keeps its records, and shows what came out, also where the engine fails.

    Everything goes to the folder `output`; `splits` are those of its data, `estimate` is
    the record of what the study should cost. Returns the exit code of `study/run.py`.

    Raises:
        MistakeError: if the cluster cannot run one trial, or another process runs this study.
    """
    with only_one(output):
        hashes = {name: one.sha256 for name, one in splits.items()}
        opening = opening_records(plan, hashes, sizes_by_hash(splits))
        opening += [] if estimate is None else [estimate]
        return _conduct(plan, output, opening, None)


def resume(output: Path, overrides: Sequence[str]) -> int:
    """Goes on with the study of a folder, as `conduct`; `overrides` are those of --set.

    Raises:
        MistakeError: as `conduct`; if an override or the data would change what trials mean; or
            if the folder's ledger cannot be gone on with.
    """
    with only_one(output):
        try:
            ledger = str(output / LEDGER)
            records = read_ledger(output / LEDGER)
            plan = make_plan(extended_spec(records, overrides, ledger))
            splits = data_splits(plan)
            hashes = {name: one.sha256 for name, one in splits.items()}
            check_data(records, hashes, ledger)
            plan = pinned(plan, hashes)
            past = Past(records, plan, output)
        except (ValueError, OSError) as error:
            raise MistakeError(str(error)) from error
        opening = resuming_records(plan, hashes, records, sizes_by_hash(splits))
        return _conduct(plan, output, opening, past)


def _conduct(plan: Plan, output: Path, opening: Sequence[Record], past: Past | None) -> int:
    """Runs a session whose first records are `opening`."""
    start = time.monotonic()
    problem = None
    with catch_interrupts() as interrupts:
        console = Console()
        ledger = Ledger(output / LEDGER)
        tracker = Tracker(output, default_uri(output))
        try:
            try:
                with contextlib.closing(ledger):
                    _run(plan, output, _safe(ledger, output), console, interrupts, opening, past)
            except StorageError as error:
                problem = error
            finally:
                reported = _show(output, console)
        finally:
            if not tracker.close(TRACKING_SECONDS):
                say(missing_in_mlflow(tracker.failure, output))
        command, link = browse_command(output).splitlines()
        say(f"MLflow: {command}\n  then open {link}")
        # Without the tasks, which are nearly all of it and need gigabytes in a large study.
        rest = [one for one in iterate_ledger(output / LEDGER) if one["kind"] != "task"]
        if any(one["kind"] == "estimate" for one in rest):
            for line in compare_lines(read_ledger(output / LEDGER)):
                say(line)
        say(f"Total time: {time.monotonic() - start:.0f} s")
    if problem is not None:
        say(f"error: {problem}", error=True)
        return 1
    if interrupts:
        say(f"Interrupted: the report shows what there is. Go on with: {resume_command(output)}")
        return interrupts.exit_code
    missing = _without_result(rest)
    for cell in missing:
        say(f"no result for {cell}: see the failed trials in {output / LEDGER}")
    return 1 if missing or not reported else 0


def _safe(ledger: Ledger, output: Path) -> Callable[[Record], None]:
    """Appends to the ledger; what it cannot take stops the study."""

    def append(record: Record) -> None:
        try:
            ledger.append(record)
        except OSError as error:
            raise storage_error(output, error) from error

    return append


def _run(
    plan: Plan,
    output: Path,
    append: Callable[[Record], None],
    console: Console,
    interrupts: Interrupts,
    opening: Sequence[Record],
    past: Past | None,
) -> None:
    """Runs the plan and hands every record to the ledger (`append`) and the display.

    Raises:
        MistakeError: if the cluster cannot run one trial.
        StorageError: if the study's folder takes nothing more.
    """
    start = time.monotonic()
    with Display(plan, console) as display:
        if past is not None:
            display.recall(past.records)

        def record(one: Record) -> None:
            one.setdefault("time", round(time.time(), 3))
            for sink in (append, display.write, winners.take):
                sink(one)

        winners = Winners()
        for one in () if past is None else past.records:
            winners.take(one)
        for one in opening:
            record(one)
            if past is not None:
                past.add(one)
        complete = False
        try:
            # Seconds of imports: by now the table is there.
            from study.engine import run_study
            from trainables.ray_trainable import ContinualTrainable

            stopped = interrupts.__bool__
            complete = run_study(plan, output, record, ContinualTrainable, stopped, past)
            if complete and plan.spec.export != "none":
                for one in export_models(output, winners, stopped):
                    record(one)
        except SystemExit:
            # Ray's way to end while it is starting.
            if not interrupts:
                raise
        finally:
            status = "completed" if complete else "interrupted"
            wall = time.monotonic() - start
            # On a full disk the ledger ends without it.
            with contextlib.suppress(StorageError):
                record({"kind": "finished", "status": status, "wall_seconds": wall})


def _show(output: Path, console: Console) -> bool:
    """Writes the report and shows its summary; False where that fails, with a message."""
    path = output / LEDGER
    try:
        from study.analysis.records import read_ledger as read_study
        from study.analysis.report import write_study
        from study.analysis.summary import summarise, text_rows
        from study.display import summary_table

        study = read_study(path)
        report = write_study(study, output / "report")
        chance = study.study.chance
        guess = "" if chance is None else f" (guessing reaches {chance:.1%})"
        rows = text_rows(summarise(study))
        console.print(summary_table(rows, f"Accuracy on test images{guess}"))
    except REPORT_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"
        say(f"error: no report ({reason}). Everything is in {path}.", error=True)
        return False
    say(f"Report: {report.resolve()}")
    return True


def _without_result(records: Sequence[Record]) -> list[str]:
    """The cells of which no confirmation trial saw all tasks."""
    cells = [one["cell"] for one in records if one["kind"] == "cell"]
    confirmed = {
        one["trial"]: one["cell"]
        for one in records
        if one["kind"] == "trial" and one["role"] == "confirm"
    }
    found = {
        confirmed.get(one["trial"])
        for one in records
        if one["kind"] == "end" and one["status"] == "completed"
    }
    return [cell for cell in cells if cell not in found]
