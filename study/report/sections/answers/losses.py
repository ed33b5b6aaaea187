"""Where accuracy is lost: against joint training, in the features or in the heads."""

from collections.abc import Mapping

from study.analysis.lost import JOINT, Lost, lost
from study.analysis.summary import CellSummary
from study.evidence import Interval
from study.report.section import Block, Findings, Paragraph, Section, Table
from study.report.wording import DASH, cut_note, percent, with_interval

TITLE = "Where accuracy is lost"
MOST_ROWS = 60
MOST_SENTENCES = 6
NOT_MEASURED = "not measured"
PARTS: Mapping[str, str] = {
    "joint_gap": "against joint training, points",
    "features": "in the features, points",
    "heads": "in the heads, points",
    "inference": "for not being told the task, points",
}
ABOUT = (
    "Against joint training under the same conditions, on the same seeds: features + heads. The "
    "features are judged by a read-out, ridge regression on the final network's features of all "
    "training images, a diagnosis that no learner may use; what it gets out and the method's own "
    "heads do not is lost in the heads. What not being told the task costs stands beside it and "
    "is no part of the sum. Below 0 nothing is lost. ± is half the 95 % t-interval over seeds: a "
    "description, not a test."
)


def section(findings: Findings) -> Section:
    """A table of the cells; nothing on the page where nothing of it was measured."""
    cells = {cell.cell: cell for cell in findings.cells}
    found = lost(findings.cells)
    # Without a read-out the gap alone says nothing that the results do not.
    told = [own for own in found if own.heads or own.inference]
    rows = [_row(cells[own.cell], own) for own in told[:MOST_ROWS]]
    blocks: tuple[Block, ...] = ()
    if rows:
        blocks = (Paragraph(ABOUT + cut_note(len(told))), Table(rows, tuple(PARTS.values())))
    return Section(TITLE, blocks, {"lost": found})


def sentences(findings: Findings) -> list[str]:
    """The same of the cells that contrasts compare, in their order, one sentence each."""
    found = {own.cell: own for own in lost(findings.cells)}
    cells = {cell.cell: cell for cell in findings.cells}
    compared = dict.fromkeys(cell for result in findings.contrasts for cell in result.cells)
    told = (_sentence(cells[cell], found[cell]) for cell in compared if cell in cells)
    return [sentence for sentence in told if sentence][:MOST_SENTENCES]


def _sentence(cell: CellSummary, own: Lost) -> str:
    """What a cell loses where; "" where there was no read-out, or it is joint training itself."""
    if own.heads is None or cell.method == JOINT:
        return ""
    features, heads = own.features, own.heads
    if own.joint_gap is None or features is None:
        known = ""
        if own.inference is not None:
            known = f" {percent(cell.final.mean + own.inference.mean)} % when told their task,"
        return (
            f"{cell.label} tells {percent(cell.final.mean)} % of the images rightly,{known} and "
            f"{percent(cell.final.mean + heads.mean)} % with one read-out of all classes that is "
            f"fitted to its features."
        )
    beside = ""
    if own.inference is not None:
        beside = f"; not being told the task costs {percent(own.inference.mean)}"
    gained = " (below 0: gained)" if min(heads.mean, features.mean, own.joint_gap.mean) < 0 else ""
    return (
        f"{cell.label} loses {percent(own.joint_gap.mean)} points against joint training, "
        f"{percent(features.mean)} in its features and {percent(heads.mean)} in its heads"
        f"{gained}{beside}."
    )


def _row(cell: CellSummary, own: Lost) -> dict[str, str]:
    parts: dict[str, Interval | None] = {name: getattr(own, name) for name in PARTS}
    # Against itself joint training loses nothing that could be measured.
    without = DASH if cell.method == JOINT else NOT_MEASURED
    amounts = {
        PARTS[name]: without if part is None else with_interval(part)
        for name, part in parts.items()
    }
    return {"cell": cell.label, **amounts}
