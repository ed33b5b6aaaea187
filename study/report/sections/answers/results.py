"""Results: what each cell came to."""

from typing import Any

from study.analysis import curves
from study.analysis.summary import CellSummary
from study.report.section import Block, Bullets, Findings, Paragraph, Section, Table
from study.report.wording import percent, text_rows

TITLE = "Results"
SEARCHED = (
    "The search of each cell looks at validation images, held out of the training images; its best "
    "setting is then trained again on the cell's seeds and looked at on test images: only these "
    "confirmations stand behind the accuracies below."
)
GIVEN = "Every cell was trained on its seeds and looked at on test images."
INTERVAL = "An interval is the 95 % t-interval of the mean over seeds."
COLUMNS = (
    "± is half the interval, sd the standard deviation over seeds. AAA: average anytime accuracy, "
    "the mean of the accuracies after each task. Forgetting: what a task lost since its best, mean "
    "over tasks. Plasticity: accuracy on a task right after learning it. Seconds are summed over "
    "all trials of the cell."
)
AS_SUMMARISED = (
    *("cell", "label", "group", "contender", "method", "tasks", "chance", "setting"),
    *("final", "average_anytime", "forgetting", "plasticity"),
    *("objective", "search_value", "compute_seconds"),
)
"""What report.json has of a cell under the names of its summary."""
MOST_CELLS = 200
"""Rows of the table on the page; all are in summary.csv."""


def section(findings: Findings) -> Section:
    """The table of cells, with what the reference points among them are."""
    cells = findings.cells
    chances = sorted({cell.chance for cell in cells if cell.chance is not None})
    chance = " or ".join(f"{percent(share)} %" for share in chances)
    shown = cells[:MOST_CELLS]
    measured = SEARCHED if any(cell.searched or cell.tuned_in for cell in cells) else GIVEN
    rows = [
        {**row, "cell": f"{row['cell']} *" if cell.reference else row["cell"]}
        for cell, row in zip(shown, text_rows(shown), strict=True)
    ]
    numbers = [name for row in rows[:1] for name in row if name.endswith((", %", "points", ", s"))]
    note = f" Chance, over all classes: {chance}." if chance else ""
    cut = f" The first {MOST_CELLS} of {len(cells)} cells; all are in summary.csv."
    more = cut if len(cells) > MOST_CELLS else ""
    references = {cell.method: cell.reference for cell in cells if cell.reference}
    blocks: tuple[Block, ...] = (
        Paragraph(f"{measured} {INTERVAL}{note} {COLUMNS}{more}"),
        Table(rows, numbers),
        Bullets(
            [f"* {name}: a reference point, {why}" for name, why in references.items()], "small"
        ),
    )
    return Section(TITLE, blocks, {"cells": [_data(cell) for cell in cells]})


def _data(cell: CellSummary) -> dict[str, Any]:
    return {
        **{name: getattr(cell, name) for name in AS_SUMMARISED},
        "finals_by_seed": cell.finals,
        "search_trials": cell.ended,
        "first_exhausted": cell.exhausted,
        "first_without_free_dimensions": cell.empty,
        "wall_seconds": cell.seconds,
        "accuracy_over_tasks": curves.mean_curve(cell.confirmed, "test/accuracy"),
        "accuracy_matrix": curves.mean_matrix(cell.confirmed),
        "free_dimensions": curves.by_layer(cell.confirmed),
        "free_share": curves.free_share(cell.confirmed),
    }
