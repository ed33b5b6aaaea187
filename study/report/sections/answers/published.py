"""Beside published results: numbers of the papers, where the ledger holds any for a cell."""

from collections.abc import Iterator, Mapping
from typing import Any

from study.analysis.summary import CellSummary
from study.evidence import Interval
from study.report.section import Block, Findings, Paragraph, Section, Table
from study.report.wording import DASH, percent, signed, with_interval

TITLE = "Beside published results"
BREAK = "\N{ZERO WIDTH SPACE}"
ABOUT = (
    "Published means, with the standard deviation over seeds where the source gives one. Points: "
    "measured minus published. No test stands behind it, since of a published number its seeds "
    "are not known one by one. What differs is listed as far as the source says how it trained."
)


def section(findings: Findings) -> Section:
    """A table with a line for each published number of a cell."""
    pairs = list(_pairs(findings))
    rows = [
        _row(cell, published)
        for cell, published in pairs
        if cell.final.n or findings.study.status != "complete"
    ]
    blocks: tuple[Block, ...] = ()
    if rows:
        numbers = {name for name in rows[0] if name.endswith((", %", "points"))}
        blocks = (Paragraph(ABOUT), Table(rows, numbers))
    data = [{"cell": cell.cell, **published} for cell, published in pairs]
    return Section(TITLE, blocks, {"published": data})


def _pairs(findings: Findings) -> Iterator[tuple[CellSummary, Mapping[str, Any]]]:
    published = {record.cell: record.published for record in findings.study.cells}
    for cell in findings.cells:
        for result in published.get(cell.cell, ()):
            yield cell, result


def _row(cell: CellSummary, published: Mapping[str, Any]) -> dict[str, str]:
    departures = "\n".join(map(_breakable, published.get("departures") or ()))
    return {
        "cell": cell.label,
        "measured, %": with_interval(cell.final),
        "published, %": _mean(published.get("final"), published.get("final_std")),
        "points": _points(cell.final, published.get("final")),
        "AAA measured, %": percent(cell.average_anytime.mean),
        "AAA published, %": _mean(published.get("anytime"), published.get("anytime_std")),
        "source": f"{published.get('label', cell.method)}, {published.get('source', 'not known')}",
        "what differs": departures or "nothing known",
    }


def _breakable(text: str) -> str:
    """Names of backbones and keys may be broken where they have a point or an underscore."""
    return text.replace(".", f".{BREAK}").replace("_", f"_{BREAK}")


def _mean(value: float | None, std: float | None) -> str:
    if value is None:
        return DASH
    return percent(value, 2) + ("" if std is None else f" (sd {percent(std, 2)})")


def _points(measured: Interval, value: float | None) -> str:
    return DASH if value is None or not measured.n else signed(measured.mean - value)
