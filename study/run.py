"""Runs a study: `python study/run.py [FILE]`, or `python -m study.run [FILE]`.

This file also works on its own, copied to another machine, if the project is installed there.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# As a script, Python would look for every module beside this file first.
if not __package__ and sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path.pop(0)

if TYPE_CHECKING:
    from rich.console import Console

    from study.interrupts import Interrupts
    from study.ledger import Record
    from study.planning import Plan

# Everything else is imported where it is needed, so that --help and mistakes are answered at once.

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    0: done, 1: a cell has no result or there is no report, 2: a mistake in the study file or the
    command, 128 + signal: interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return _command(options)
    except ModuleNotFoundError as error:
        print(f"error: {error}: install the project with its extra 'study'.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Search in every cell of a study's grid, confirm each winner on test images, "
        "and write a report. Records go to one folder: ledger, MLflow store, report.",
        epilog="exit code: 0 done, 1 a cell has no result or there is no report, 2 a mistake in "
        "the study file or the command, 130 interrupted by Ctrl-C, 143 terminated.",
    )
    parser.add_argument(
        "file", nargs="?", default="quickstart", help="study file, or a name from --list"
    )
    parser.add_argument("--list", action="store_true", help="list the studies that come along")
    parser.add_argument("--validate", action="store_true", help="check the study file and stop")
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="check the study's data sets on this machine, pin their splits, decode them, and stop",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the study file, say trials=2, data.tasks=[10,50], optim.epochs=3; "
        "may be repeated",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="new folder for everything the study writes (default: results/NAME-TIME)",
    )
    return parser


def _command(options: argparse.Namespace) -> int:
    from study.rules import MistakeError

    if options.list:
        return _list()
    try:
        plan = _plan(options)
        if options.validate:
            return _describe(plan)
        if options.prepare:
            return _prepare(plan)
        from study.preparation import data_hashes, pinned

        hashes = data_hashes(plan)
        plan = pinned(plan, hashes)
        output = _output_folder(options.output, plan.spec.name)
    except ValueError as error:
        return _refuse(error)
    # From here on a ValueError is nobody's mistake but this project's.
    try:
        return _conduct(plan, output, hashes)
    except MistakeError as error:
        return _refuse(error)


def _refuse(error: ValueError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def _shipped() -> dict[str, Path]:
    """The studies that come along, by name."""
    import study

    folder = Path(study.__path__[0]) / "specs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _list() -> int:
    from study import yaml_text

    for name, path in _shipped().items():
        question = yaml_text.parse(path.read_text(encoding="utf-8"))["question"]
        print(f"{name}: {' '.join(question.split())}\n    {path}")
    return 0


def _plan(options: argparse.Namespace) -> "Plan":
    """Reads and checks the study file.

    Raises:
        ValueError: with the message for the person.
    """
    from study.planning import make_plan
    from study.spec import StudySpec

    shipped = _shipped()
    path = shipped.get(options.file, Path(options.file))
    try:
        there = path.exists()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if not there:
        raise ValueError(
            f"{path}: there is no such file; give the path of a study file or one of "
            f"{sorted(shipped)}."
        )
    return make_plan(StudySpec.load(path, options.set))


def _describe(plan: "Plan") -> int:
    print(
        f"{plan.spec.source} is valid: {len(plan.cells)} cells, up to {plan.search_trials} search "
        f"trials and {plan.confirmation_trials} confirmation trials."
    )
    for cell in plan.cells:
        print(f"  {cell.id}: searches {', '.join(cell.space) or 'nothing'}")
    return 0


def _prepare(plan: "Plan") -> int:
    from study.preparation import prepare_all

    try:
        for line in prepare_all(plan):
            print(line)
    except OSError as error:
        raise ValueError(f"the data cannot be prepared: {error}.") from error
    return 0


def _output_folder(wanted: Path | None, name: str) -> Path:
    """Makes the folder a study writes to.

    Raises:
        ValueError: if it holds something already or cannot be made.
    """
    output = wanted or Path("results") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise ValueError(f"--output must be a new or an empty folder, but {output} is not.")
    except OSError as error:
        raise ValueError(f"--output: {output} cannot be used: {error.strerror}.") from error
    return output


def _conduct(plan: "Plan", output: Path, hashes: dict[str, str]) -> int:
    """Runs the plan, keeps its records, and shows what came out, also where the engine fails.

    Raises:
        MistakeError: if the cluster cannot run one trial.
    """
    from study.interrupts import catch_interrupts

    start = time.monotonic()
    with catch_interrupts() as interrupts:
        from rich.console import Console

        from study.ledger import Ledger, read_ledger
        from study.tracking import Tracker, browse_command, default_uri

        console = Console()
        ledger = Ledger(output / "ledger.jsonl")
        tracker = Tracker(default_uri(output), output / "mlflow-artifacts")
        try:
            try:
                with contextlib.closing(ledger):
                    _run(plan, output, (ledger.append, tracker.write), console, interrupts, hashes)
            finally:
                reported = _show(output, console)
        finally:
            if not tracker.close(TRACKING_SECONDS):
                print(f"Warning: {tracker.failure} Everything is in {output / 'ledger.jsonl'}.")
        command, link = browse_command(output).splitlines()
        print(f"MLflow: {command}\n  then open {link}")
        print(f"Total time: {time.monotonic() - start:.0f} s")
    if interrupts:
        print("Interrupted: the report shows what there is.")
        return interrupts.exit_code
    missing = _without_result(read_ledger(output / "ledger.jsonl"))
    for cell in missing:
        print(f"no result for {cell}: see the failed trials in {output / 'ledger.jsonl'}")
    return 1 if missing or not reported else 0


def _run(
    plan: "Plan",
    output: Path,
    sinks: "Sequence[Callable[[Record], None]]",
    console: "Console",
    interrupts: "Interrupts",
    hashes: dict[str, str],
) -> None:
    """Runs the plan and hands every record to all sinks and to the display.

    Raises:
        MistakeError: if the cluster cannot run one trial.
    """
    from study.display import Display
    from study.provenance import opening_records

    start = time.monotonic()
    with Display(plan, console) as display:

        def record(one: "Record") -> None:
            one.setdefault("time", round(time.time(), 3))
            for sink in (*sinks, display.write):
                sink(one)

        for one in opening_records(plan, hashes):
            record(one)
        complete = False
        try:
            # Seconds of imports: by now the table is there.
            from study.engine import run_study
            from trainables.ray_trainable import ContinualTrainable

            complete = run_study(plan, output, record, ContinualTrainable, interrupts.__bool__)
        except SystemExit:
            # Ray's way to end while it is starting.
            if not interrupts:
                raise
        finally:
            status = "completed" if complete else "interrupted"
            record({"kind": "finished", "status": status, "wall_seconds": time.monotonic() - start})


def _show(output: Path, console: "Console") -> bool:
    """Writes the report and shows its summary; False where that fails, with a message."""
    path = output / "ledger.jsonl"
    try:
        from study.analysis.report import write_report
        from study.analysis.summary import summary_rows
        from study.display import summary_table
        from study.ledger import read_ledger

        report = write_report(path, output / "report")
        records = read_ledger(path)
        chance = records[0]["chance"]
        guess = "" if chance is None else f" (guessing reaches {chance:.1%})"
        console.print(summary_table(summary_rows(records), f"Accuracy on test images{guess}"))
    except REPORT_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"
        print(f"error: no report ({reason}). Everything is in {path}.", file=sys.stderr)
        return False
    print(f"Report: {report.resolve()}")
    return True


def _without_result(records: "Sequence[Record]") -> list[str]:
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


if __name__ == "__main__":
    sys.exit(main())
