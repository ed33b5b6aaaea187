"""Which options of study/run.py mean something together."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from study.errors import hint as close_name
from study.ledger import LATEST
from study.system import CONSOLE_COMMAND, own_program
from study.tracking import URI_VARIABLE, without_secrets

# `ray submit` hands arguments to a shell without quotes.
SPLIT = (
    " Was it a part of a value? `ray submit` does not quote its arguments: give such a value in a "
    "study file, or by `ray job submit`."
)
MOST_PILOTS = 100
OF_A_FILE = ("a study file", "--set")
# Of servers and of databases that MLflow writes to.
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
# What these do writes nothing to it.
WITHOUT_MLFLOW = ("list", "schema", "compare", "report", "validate", "prepare", "plan", "optuna")
# Of several the parser takes the last.
ONE_VALUE = (
    *("--resume", "--report", "--replay", "--optuna", "--open", "--compare"),
    *("--output", "--tracking-uri", "--price", "--contrasts", "--pilot"),
)
# What each of these reads beside itself.
READS = {
    "list": (),
    "schema": (),
    "compare": (),
    "report": ("--output", "--contrasts"),
    "replay": ("--tracking-uri",),
    "optuna": (),
    "open": (),
    "validate": OF_A_FILE,
    "prepare": OF_A_FILE,
    "plan": (*OF_A_FILE, "--probe", "--past", "--pilot"),
    "once": (*OF_A_FILE, "--output"),
}


def check_options(options: argparse.Namespace) -> None:
    """Refuses options that mean nothing together.

    Raises:
        ValueError: naming them.
    """
    if options.price is not None and not options.plan:
        raise ValueError("--price must be given with --plan.")
    if options.pilot is not None and not options.plan:
        raise ValueError("--pilot must be given with --plan.")
    if options.pilot is not None and not 2 <= options.pilot <= MOST_PILOTS:
        raise ValueError(
            f"--pilot must be a whole number from 2 to {MOST_PILOTS}, but got {options.pilot}."
        )
    if options.tracking_uri is not None and options.replay is None:
        raise ValueError(
            "--tracking-uri must be given with --replay: a study that runs writes to what "
            "MLFLOW_TRACKING_URI names."
        )
    if options.tracking_uri is not None:
        _check_uri("--tracking-uri", options.tracking_uri)
    elif not any(getattr(options, mode) for mode in WITHOUT_MLFLOW):
        _check_uri(URI_VARIABLE, os.environ.get(URI_VARIABLE) or f"{SCHEMES[0]}://")
    if options.price is not None and not 0 <= options.price < float("inf"):
        raise ValueError(f"--price must be a number of at least 0, but got {options.price:g}.")
    if options.contrasts is not None and options.report is None:
        raise ValueError(
            "--contrasts must be given with --report: a study that runs has them in its study file."
        )
    given = {
        "a study file": options.file,
        "--output": options.output,
        "--probe": options.probe,
        "--past": options.past,
        "--pilot": options.pilot,
        "--set": options.set,
        "--tracking-uri": options.tracking_uri,
        "--contrasts": options.contrasts,
    }
    here = [what for what, value in given.items() if value]
    if options.resume is not None:
        _refuse_beside(
            "--resume",
            [option for option in here if option != "--set"],
            ": a study goes on with what is in its own folder, changed by --set alone",
        )
    for mode, reads in READS.items():
        if getattr(options, mode) not in (None, False):
            _refuse_beside(f"--{mode}", [option for option in here if option not in reads])


def refuse_repeated(words: Sequence[str]) -> None:
    """Refuses an option twice on the command line of which one value is taken.

    Raises:
        ValueError: naming it.
    """
    given = [word.partition("=")[0] for word in words]
    for option in ONE_VALUE:
        if given.count(option) > 1:
            raise ValueError(f"{option} must be given once, but is there twice.")


def refuse_unknown(words: Sequence[str], alone: bool) -> None:
    """Refuses what the command line has too much; `alone`: it came through `ray submit`.

    Raises:
        ValueError: naming the words.
    """
    if words:
        known = re.findall(r"--[a-z-]+", parser().format_help())
        near = "".join(close_name(word.partition("=")[0], known) for word in words[:1])
        hint = SPLIT if alone else " See --help."
        raise ValueError(f"unknown arguments: {' '.join(words)}.{near}{hint}")


def _check_uri(named: str, uri: str) -> None:
    scheme = uri.partition("://")[0].partition("+")[0]
    if "://" not in uri or scheme not in SCHEMES:
        shown = without_secrets(uri)
        raise ValueError(
            f"{named} must begin with one of {list(SCHEMES)} and '://', but got {shown!r}."
        )


def _refuse_beside(mode: str, others: Sequence[str], why: str = "") -> None:
    if others:
        raise ValueError(f"{mode} must be given without {others[0]}{why}.")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    found = argparse.ArgumentParser(
        prog=CONSOLE_COMMAND if own_program() == CONSOLE_COMMAND else "run.py",
        allow_abbrev=False,
        description="Search in every cell of a study's grid, confirm each winner on test images, "
        "and write a report. Records go to one folder: ledger, MLflow store, report.",
        epilog="exit code: 0 done, 1 a cell has no result or there is no report, 2 a mistake in "
        "the study file or the command, 130 interrupted by Ctrl-C, 143 terminated.",
    )
    found.add_argument(
        "file", nargs="?", help="study file, or a name from --list (default: quickstart)"
    )
    modes = found.add_mutually_exclusive_group()
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
    found.add_argument(
        "--probe",
        action="store_true",
        help="measure the first tasks of each kind of trial for --plan, or before the study, "
        "which then ends with estimate and outcome side by side",
    )
    found.add_argument(
        "--past",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="take the cost of trials from a past study's folder; may be repeated",
    )
    found.add_argument(
        "--pilot",
        type=int,
        metavar="N",
        help="train N trials of each cell that is compared, default settings on validation images, "
        "so that --plan says what the seeds could show of a contrast that no --past tells of",
    )
    found.add_argument(
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
    found.add_argument(
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
    found.add_argument(
        "--contrasts",
        type=Path,
        metavar="FILE",
        help="with --report: a YAML file with contrasts, and perhaps a margin, as in a study file; "
        "the report marks them as declared after the data",
    )
    modes.add_argument(
        "--replay",
        metavar="NAME_OR_DIR",
        help="write all records of a study to MLflow, where what is there already stays single: "
        "for a time without MLflow, or into another store",
    )
    modes.add_argument(
        "--optuna",
        nargs=2,
        metavar=("URL", "NAME_OR_DIR"),
        help="write the search of each cell as a study of Optuna to a storage, say "
        "sqlite:////tmp/searches.db, for optuna-dashboard and optuna.visualization; what is there "
        "already stays single",
    )
    modes.add_argument(
        "--open",
        nargs="?",
        const=LATEST,
        metavar="NAME_OR_DIR",
        help="open the page of a study in a browser, start MLflow on its runs and open them, too "
        "(default: the study that was begun last in results)",
    )
    found.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow store of --replay (default: $MLFLOW_TRACKING_URI, or the study's mlflow.db)",
    )
    found.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="new folder for everything the study writes (default: NAME-TIME in the study file's "
        "storage, or in $LRCS_STORAGE/studies, or in results)",
    )
    return found
