"""`--report` and `--compare`: studies that have run, from their ledgers alone."""

import dataclasses
from pathlib import Path

from rich.console import Console
from rich.table import Table

from study.analysis.comparison import StudyComparison, compare_studies
from study.analysis.contrasts import Later
from study.commands.tables import plain
from study.errors import MistakeError
from study.ledger import StudyFolder, StudyRecords, own_path, read_study, refuse_planted
from study.planning.contrasts import of_study
from study.report import (
    between,
    missing_lines,
    p_text,
    percent,
    with_interval,
    write_study,
)
from study.system import say

LONGEST = 60


def report_again(folder: StudyFolder, wanted: Path | None, contrasts: Path | None = None) -> int:
    """Writes the report of a study, into `wanted` or its own folder, and says what is missing.

    The file `contrasts` declares what is to be tested beside what was declared before.

    Nothing stays locked and nothing else is written, so that a study can go on meanwhile. One that
    no process runs although its ledger has no end is reported as interrupted. Returns the exit code
    of `study/run.py`.

    Raises:
        MistakeError: if the ledger is broken or of a newer version, the file of contrasts is
            wrong, or the report cannot be written.
    """
    place = folder.report if wanted is None else wanted
    try:
        if wanted is None:
            own_path(folder.path, place.name, "its report")
        else:
            refuse_planted(wanted)
        study = read_study(folder.ledger)
        later = declared_later(study, contrasts)
    except (ValueError, OSError) as error:
        raise MistakeError(str(error)) from error
    killed = study.status == "running" and folder.is_held() is False
    if killed:
        study = dataclasses.replace(study, status="interrupted")
    try:
        page = write_study(study, place, later)
    except OSError as error:
        raise MistakeError(
            f"the report must be written to a folder that can be written to, but {place}: "
            f"{error.strerror or error}; --output names another one."
        ) from error
    for line in missing_lines(study):
        say(line)
    if killed:
        again = folder.command("--resume")
        say(f"Its driver ended without a word (killed?). To go on: {again}")
    say(f"Report: {page.resolve()}")
    return 0


def declared_later(study: StudyRecords, file: Path | None = None) -> Later | None:
    """Contrasts that were declared after the data: those of a file, or the default of old ledgers.

    None where there is no file and the study has contrasts of its own, or declares none.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    if file is None and (study.contrasts or study.study.spec.get("contrasts") is not None):
        return None
    return Later(*of_study(study, file))


def show_comparison(first: Path, second: Path, console: Console) -> None:
    """Prints what differs between two studies, then their cells, then cells of one alone.

    Raises:
        ValueError: if a folder has no ledger, or a broken one, or both are the same.
    """
    found = compare_studies(first, second)
    for letter, folder, study in (("A", first, found.first), ("B", second, found.second)):
        about = f"{letter}: {study.study.name}, {study.status}, {folder}"
        console.print(plain(about), soft_wrap=True)
    console.print(_differences(found))
    if found.cells:
        console.print(_cells(found))
        console.print(
            "± is half the 95 % t-interval over seeds. B − A has its own 95 % interval, by the "
            "test named below it; p after Holm's correction over all cells here "
            f"({len(found.cells)}).",
            highlight=False,
        )
    else:
        console.print("No cell is in both studies.")
    for name, labels in (("A", found.first_only), ("B", found.second_only)):
        if labels:
            console.print(plain(f"Only in {name}: {'; '.join(labels)}."), soft_wrap=True)


def _differences(found: StudyComparison) -> Table | str:
    if not found.differences:
        return "What differs: nothing, neither settings nor code nor packages."
    table = Table(title="What differs", title_justify="left")
    for heading in ("what", "A", "B"):
        table.add_column(heading, overflow="fold")
    for row in found.differences:
        short = (text if len(text) <= LONGEST else f"{text[:LONGEST]}…" for text in row)
        table.add_row(*map(plain, short))
    return table


def _cells(found: StudyComparison) -> Table:
    table = Table(title="Final accuracy on test images, %", title_justify="left")
    table.add_column("cell", overflow="fold")
    for heading in ("A", "B", "B − A, points", "p (Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for cell in found.cells:
        better = "B is better" if cell.difference.mean > 0 else "A is better"
        row = (
            cell.label,
            with_interval(cell.first).replace(" (", "\n("),
            with_interval(cell.second).replace(" (", "\n("),
            f"{percent(cell.difference.mean)} ({between(cell.difference)})\n{cell.test}",
            p_text(cell.p_holm).removeprefix("= "),
            better if cell.enough_evidence else "not enough evidence",
        )
        table.add_row(*map(plain, row))
    return table
