"""Two studies beside each other, as tables for the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from study.analysis.comparison import StudyComparison, compare_studies
from study.analysis.entities import StudyRecords
from study.analysis.summary import with_interval
from study.analysis.wording import between, p_text, percent

LONGEST = 60


def show_comparison(first: Path, second: Path, console: Console) -> None:
    """Prints what differs between two studies, then their cells, then cells of one alone.

    Raises:
        ValueError: if a folder has no ledger, or a broken one, or both are the same.
    """
    found = compare_studies(first, second)
    console.print(_about("A", first, found.first), soft_wrap=True)
    console.print(_about("B", second, found.second), soft_wrap=True)
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
            console.print(Text(f"Only in {name}: {'; '.join(labels)}."), soft_wrap=True)


def _about(letter: str, folder: Path, study: StudyRecords) -> Text:
    return Text(f"{letter}: {study.study.name}, {study.status}, {folder}")


def _differences(found: StudyComparison) -> Table | str:
    if not found.differences:
        return "What differs: nothing, neither settings nor code nor packages."
    table = Table(title="What differs", title_justify="left")
    for heading in ("what", "A", "B"):
        table.add_column(heading, overflow="fold")
    for row in found.differences:
        table.add_row(*(Text(one if len(one) <= LONGEST else f"{one[:LONGEST]}…") for one in row))
    return table


def _cells(found: StudyComparison) -> Table:
    table = Table(title="Final accuracy on test images, %", title_justify="left")
    table.add_column("cell", overflow="fold")
    for heading in ("A", "B", "B − A, points", "p (Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for one in found.cells:
        better = "B is better" if one.difference.mean > 0 else "A is better"
        row = (
            one.label,
            with_interval(one.first).replace(" (", "\n("),
            with_interval(one.second).replace(" (", "\n("),
            f"{percent(one.difference.mean)} ({between(one.difference)})\n{one.test}",
            p_text(one.p_holm).removeprefix("= "),
            better if one.enough_evidence else "not enough evidence",
        )
        table.add_row(*map(Text, row))
    return table
