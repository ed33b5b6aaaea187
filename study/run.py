"""Runs a study: `python study/run.py [FILE]`, or `python -m study.run [FILE]`.

This file also works on its own, copied to another machine, if the project is installed there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# As a script, Python would look for every module beside this file first.
if not __package__ and sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path.pop(0)

# `ray submit` copies this file alone, and joins its arguments without quotes into a line for a
# shell, which splits them.
ALONE = not Path(__file__).with_name("commands.py").exists()

# Everything else is imported where it is needed, so that --help and mistakes are answered at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    0: done, 1: a cell has no result or there is no report, 2: a mistake in the study file or the
    command, 128 + signal: interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, unknown = _parser().parse_known_args(given)
    options.alone = ALONE
    try:
        return _command(options, unknown)
    except ModuleNotFoundError as error:
        print(f"error: {error}: install the project with its extra 'study'.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        allow_abbrev=False,
        description="Search in every cell of a study's grid, confirm each winner on test images, "
        "and write a report. Records go to one folder: ledger, MLflow store, report.",
        epilog="exit code: 0 done, 1 a cell has no result or there is no report, 2 a mistake in "
        "the study file or the command, 130 interrupted by Ctrl-C, 143 terminated.",
    )
    parser.add_argument(
        "file",
        nargs="?",
        help="study file, or a name from --list (default: quickstart)",
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--list", action="store_true", help="list the studies that come along")
    modes.add_argument("--validate", action="store_true", help="check the study file and stop")
    modes.add_argument(
        "--schema",
        action="store_true",
        help="print a JSON Schema of study files, with which editors complete and check them",
    )
    modes.add_argument(
        "--plan",
        action="store_true",
        help="print what the study would cost, without starting Ray, and stop",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="measure the first tasks of each kind of trial for --plan, or before the study, "
        "which then ends with estimate and outcome side by side",
    )
    parser.add_argument(
        "--past",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="take the cost of trials from a past study's folder; may be repeated",
    )
    parser.add_argument(
        "--price", type=float, metavar="EUR_PER_GPU_HOUR", help="add the price to --plan"
    )
    modes.add_argument(
        "--once",
        action="store_true",
        help="run the one configuration that --set leaves, without Ray, on validation images",
    )
    modes.add_argument(
        "--prepare",
        action="store_true",
        help="check the study's data sets on this machine, pin their splits, decode them, and stop",
    )
    modes.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("DIR_A", "DIR_B"),
        help="compare the cells of two studies, given their output folders, and stop",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the study file, say trials=2, data.tasks=[10,50], optim.epochs=3; "
        "may be repeated",
    )
    modes.add_argument(
        "--resume",
        metavar="NAME_OR_DIR",
        help="go on with a study that was stopped or killed, or extend one (with --set: more "
        "trials, further seeds, further values of the grid): its folder, or the start of the "
        "folder's name in results",
    )
    modes.add_argument(
        "--report",
        metavar="NAME_OR_DIR",
        help="write the report of a study anew from its ledger, also while it runs (into --output, "
        "or the folder report beside the ledger), and stop",
    )
    modes.add_argument(
        "--replay",
        metavar="NAME_OR_DIR",
        help="write all records of a study to MLflow, where what is there already stays single: "
        "for a time without MLflow, or into another store",
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow store of --replay (default: $MLFLOW_TRACKING_URI, or the study's mlflow.db)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="new folder for everything the study writes (default: NAME-TIME in the study file's "
        "storage, or in $LRCS_STORAGE/studies, or in results)",
    )
    return parser


def _command(options: argparse.Namespace, unknown: Sequence[str]) -> int:
    from study import commands
    from study.cluster_address import expect_cluster
    from study.option_rules import refuse_unknown
    from study.rules import MistakeError

    try:
        if options.alone:
            expect_cluster()
        refuse_unknown(unknown, options.alone)
        work = commands.prepared(options)
    except ValueError as error:
        return _refuse(error)
    # From here on another ValueError is nobody's mistake but this project's.
    try:
        return work()
    except MistakeError as error:
        return _refuse(error)


def _refuse(error: ValueError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
