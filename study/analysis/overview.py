"""Sections of the page that stand before the results: who leads where, and what is missing."""

from collections.abc import Sequence

from study.analysis.answer import MOST_GROUPS
from study.analysis.entities import StudyRecords
from study.analysis.markup import paragraph, table
from study.analysis.missing import MissingCell, missing_cells, pending_text
from study.analysis.scaling import Comparison
from study.analysis.standing import Standing
from study.analysis.summary import ALL, with_interval
from study.analysis.wording import DASH, listed

MOST_NAMES = 6
MOST_ROWS = 60
"""Rows of a table on the page; a longer one is cut, and says where the rest is."""


def standing_section(standings: Sequence[Standing], comparisons: Sequence[Comparison]) -> str:
    """The best of each group beside what is shown of it; "" where sentences say it all."""
    compared = [one for one in standings if one.compared]
    largest = max(
        (len((*one.better_than, *one.worse_than, *one.identical, *one.open)) for one in compared),
        default=0,
    )
    if not compared or (len(compared) <= MOST_GROUPS and largest <= MOST_NAMES):
        return ""
    rows = [
        {
            "cells": one.group,
            "highest": " = ".join(one.best),
            "final accuracy, %": with_interval(one.final),
            "shown to be better than": _names(one.better_than),
            "shown to be worse than": _names(one.worse_than),
            "identical on every seed to": _names(one.identical),
            "not enough evidence against": _names(one.open),
        }
        for one in compared[:MOST_ROWS]
    ]
    if not any(one.identical for one in compared):
        rows = [{k: v for k, v in row.items() if not k.startswith("identical")} for row in rows]
    if all(one.group == ALL for one in compared):
        rows = [{key: value for key, value in row.items() if key != "cells"} for row in rows]
    about = (
        f"Paired over seeds, Holm's correction over all {len(comparisons)} comparisons of the "
        f"study.{_cut(len(compared), 'report.json')}"
    )
    return f"<h3>The best of each group</h3>{paragraph(about)}{table(rows, {'final accuracy, %'})}"


def missing_section(study: StudyRecords) -> str:
    """What has not run yet, cell by cell; "" where all is there."""
    cells = missing_cells(study)
    if not cells:
        return ""
    rows = [_missing_row(one) for one in cells[:MOST_ROWS]]
    done = len(study.cells) - len(cells)
    about = (
        f"{done} of {len(study.cells)} cells have all their results; these do not. A search may "
        f"end before all its trials have run, where a budget is used up or no new setting is left."
        f"{_cut(len(cells), 'report.json')}"
    )
    numbers = {"search trials ended", "confirmations completed", "failed", "without an end"}
    return f"<h2>What is missing</h2>{paragraph(about)}{table(rows, numbers)}"


def _missing_row(one: MissingCell) -> dict[str, str]:
    pending = "no setting is chosen yet"
    if one.why is not None:
        pending = f"none: {one.why}"
    elif one.search_over:
        pending = pending_text(one) or "none"
    return {
        "cell": one.label,
        "search trials ended": f"{one.searched} of {one.search_trials}"
        if one.search_trials
        else "none to run",
        "confirmations completed": f"{one.confirmed} of {one.confirmations}"
        if one.search_over
        else DASH,
        "failed": str(one.failed),
        "without an end": str(one.running),
        "confirmations to run": pending,
    }


def _names(names: Sequence[str]) -> str:
    return listed(names, MOST_NAMES) or DASH


def _cut(rows: int, file: str) -> str:
    return f" The first {MOST_ROWS} of {rows} are shown; all are in {file}." * (rows > MOST_ROWS)
