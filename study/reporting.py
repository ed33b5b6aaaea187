"""`--report`: the report of a study, from its ledger alone, whether or not it still runs."""

import dataclasses
from pathlib import Path

from study.analysis.missing import missing_lines
from study.analysis.records import read_ledger
from study.analysis.report import write_study
from study.lock import held
from study.restore import NAME
from study.rules import MistakeError
from study.storage import resume_command
from study.terminal import say

FOLDER = "report"


def report_again(output: Path, wanted: Path | None) -> int:
    """Writes the report of a study's folder, into `wanted` or the folder, and says what is missing.

    Nothing stays locked and nothing else is written, so that a study can go on meanwhile. One that
    no process runs although its ledger has no end is reported as interrupted. Returns the exit code
    of `study/run.py`.

    Raises:
        MistakeError: if the ledger is broken or of a newer version, or the folder cannot be
            written to.
    """
    folder = output / FOLDER if wanted is None else wanted
    try:
        study = read_ledger(output / NAME)
    except (ValueError, OSError) as error:
        raise MistakeError(str(error)) from error
    killed = study.status == "running" and held(output) is False
    if killed:
        study = dataclasses.replace(study, status="interrupted")
    try:
        page = write_study(study, folder)
    except OSError as error:
        raise MistakeError(
            f"the report must be written to a folder that can be written to, but {folder}: "
            f"{error.strerror or error}; --output names another one."
        ) from error
    for line in missing_lines(study):
        say(line)
    if killed:
        say(f"Its driver ended without a word (killed?). To go on: {resume_command(output)}")
    say(f"Report: {page.resolve()}")
    return 0
