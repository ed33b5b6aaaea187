"""Which options of study/run.py mean something together."""

import argparse
import os
from collections.abc import Sequence

from study.mlflow_links import URI_VARIABLE

# `ray submit` hands arguments to a shell without quotes.
SPLIT = (
    " Was it a part of a value? `ray submit` does not quote its arguments: give such a value in a "
    "study file, or by `ray job submit`."
)
OF_A_FILE = ("a study file", "--set")
# Of servers and of databases that MLflow writes to.
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
# What these do writes nothing to it.
WITHOUT_MLFLOW = ("list", "schema", "compare", "report", "validate", "prepare", "plan")
# What each of these reads beside itself.
READS = {
    "list": (),
    "schema": (),
    "compare": (),
    "report": ("--output",),
    "replay": ("--tracking-uri",),
    "validate": OF_A_FILE,
    "prepare": OF_A_FILE,
    "plan": (*OF_A_FILE, "--probe", "--past"),
    "once": (*OF_A_FILE, "--output"),
}


def check_options(options: argparse.Namespace) -> None:
    """Refuses options that mean nothing together.

    Raises:
        ValueError: naming them.
    """
    if options.price is not None and not options.plan:
        raise ValueError("--price must be given with --plan.")
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
    given = {
        "a study file": options.file,
        "--output": options.output,
        "--probe": options.probe,
        "--past": options.past,
        "--set": options.set,
        "--tracking-uri": options.tracking_uri,
    }
    here = [what for what, value in given.items() if value]
    if options.resume is not None:
        _refuse_beside(
            "--resume",
            [one for one in here if one != "--set"],
            ": a study goes on with what is in its own folder, changed by --set alone",
        )
    for mode, reads in READS.items():
        if getattr(options, mode) not in (None, False):
            _refuse_beside(f"--{mode}", [one for one in here if one not in reads])


def refuse_unknown(words: Sequence[str], alone: bool) -> None:
    """Refuses what the command line has too much; `alone`: it came through `ray submit`.

    Raises:
        ValueError: naming the words.
    """
    if words:
        hint = SPLIT if alone else " See --help."
        raise ValueError(f"unknown arguments: {' '.join(words)}.{hint}")


def _check_uri(named: str, uri: str) -> None:
    scheme = uri.partition("://")[0].partition("+")[0]
    if "://" not in uri or scheme not in SCHEMES:
        raise ValueError(
            f"{named} must begin with one of {list(SCHEMES)} and '://', but got {uri!r}."
        )


def _refuse_beside(mode: str, others: Sequence[str], why: str = "") -> None:
    if others:
        raise ValueError(f"{mode} must be given without {others[0]}{why}.")
