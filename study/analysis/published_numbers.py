"""Published results beside the measured ones, where the ledger holds any for a cell."""

from collections.abc import Mapping, Sequence
from typing import Any

from study.analysis.entities import StudyRecords
from study.analysis.markup import paragraph, table
from study.analysis.scaling import Interval
from study.analysis.summary import CellSummary, with_interval
from study.analysis.wording import DASH, percent

BREAK = "\N{ZERO WIDTH SPACE}"
NOTHING = "nothing known"
ABOUT = (
    "Published means, with the standard deviation over seeds where the source gives one. Points: "
    "measured minus published. No test stands behind it, since of a published number its seeds "
    "are not known one by one. What differs is listed as far as the source says how it trained."
)


def published_section(study: StudyRecords, cells: Sequence[CellSummary]) -> str:
    """A table with one line for each published number of a cell; "" where there is none."""
    rows = [
        _row(one, known)
        for one, known in _pairs(study, cells)
        if one.final.n or study.status != "complete"
    ]
    if not rows:
        return ""
    numbers = {name for name in rows[0] if name.endswith((", %", "points"))}
    return f"<h2>Beside published results</h2>{paragraph(ABOUT)}{table(rows, numbers)}"


def published_data(study: StudyRecords, cells: Sequence[CellSummary]) -> list[dict[str, Any]]:
    """The same for report.json: each published number with the label of its cell."""
    return [{"cell": one.cell, **known} for one, known in _pairs(study, cells)]


def _pairs(
    study: StudyRecords, cells: Sequence[CellSummary]
) -> list[tuple[CellSummary, Mapping[str, Any]]]:
    known = {one.cell: one.published for one in study.cells}
    return [(one, published) for one in cells for published in known.get(one.cell, ())]


def _row(one: CellSummary, known: Mapping[str, Any]) -> dict[str, str]:
    return {
        "cell": one.label,
        "measured, %": with_interval(one.final),
        "published, %": _mean(known.get("final"), known.get("final_std")),
        "points": _points(one.final, known.get("final")),
        "AAA measured, %": percent(one.average_anytime.mean),
        "AAA published, %": _mean(known.get("anytime"), known.get("anytime_std")),
        "source": f"{known.get('label', one.method)}, {known.get('source', 'not known')}",
        "what differs": "\n".join(map(_breakable, known.get("departures") or ())) or NOTHING,
    }


def _breakable(text: str) -> str:
    """Names of backbones and keys may be broken where they have a point or an underscore."""
    return text.replace(".", f".{BREAK}").replace("_", f"_{BREAK}")


def _mean(value: float | None, std: float | None) -> str:
    if value is None:
        return DASH
    return percent(value, 2) + ("" if std is None else f" (sd {percent(std, 2)})")


def _points(measured: Interval, value: float | None) -> str:
    if value is None or not measured.n:
        return DASH
    gain = measured.mean - value
    return f"{'+' if gain > 0 else ''}{percent(gain)}"
