"""The report as one HTML page that needs nothing else: no network, no other file."""

from collections.abc import Sequence
from html import escape

from study.analysis import extras
from study.analysis.entities import StudyRecords
from study.analysis.findings import Findings
from study.analysis.markup import bullets
from study.analysis.method import method_lines
from study.analysis.overview import missing_section, standing_section
from study.analysis.picture import Picture, as_html
from study.analysis.published_numbers import published_section
from study.analysis.reproduce import reproduce_section
from study.analysis.results import comparison_section, results_section, trial_section
from study.analysis.setting_sections import (
    cost_section,
    importance_section,
    interference_section,
    memory_section,
    rank_section,
)
from study.analysis.task_sections import scaling_section, space_section
from study.analysis.wording import duration, moment

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1b1b;
  background: #fff; max-width: 980px; margin: 2rem auto 4rem; padding: 0 16px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1.02rem; margin: 1.4rem 0 .3rem; }
p { margin: .4rem 0; }
ul { margin: .3rem 0 .8rem; padding-left: 1.3rem; }
.status { display: inline-block; padding: .1rem .6rem; border-radius: 4px; font-weight: 600;
  font-size: .85rem; border: 1px solid #006b4f; color: #006b4f; }
.status.open { border-color: #9a3d00; color: #fff; background: #9a3d00; }
.question { font-size: 1.1rem; margin: .6rem 0; white-space: pre-line; }
.answer { background: #f2f6f9; border-left: 4px solid #0072b2; padding: .4rem 1rem .2rem; }
.warnings { background: #fdf4ec; border-left: 4px solid #d55e00; padding: .4rem 1rem .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; margin: .5rem 0; }
th, td { padding: .3rem .42rem; border-bottom: 1px solid #e2e2e2; text-align: left;
  vertical-align: top; }
th { border-bottom: 2px solid #999; vertical-align: bottom; white-space: pre-line; }
td { white-space: pre-line; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
figure { margin: .4rem 0 1.2rem; break-inside: avoid; }
figure img { max-width: 100%; height: auto; }
figcaption, .small { font-size: .86rem; color: #4a4a4a; }
pre { background: #f5f5f5; padding: .6rem .8rem; overflow-x: auto; font-size: .84rem; }
summary { cursor: pointer; font-weight: 600; margin: .5rem 0; }
@media print {
  body { font-size: 10.5pt; margin: 0; max-width: none; print-color-adjust: exact; }
  h2, h3 { break-after: avoid; }
  tr { break-inside: avoid; }
  .wide { overflow: visible; }
  pre { white-space: pre-wrap; }
}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(found: Findings, pictures: Sequence[Picture]) -> str:
    """The whole page. All text from the ledger is escaped."""
    study, cells, warnings = found.study, found.cells, found.warnings
    name = escape(study.study.name)
    objective = study.study.spec.get("objective") or {}
    method = method_lines(study)
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
        f"<title>{name}</title><style>{STYLE}</style></head><body>",
        f"<h1>{name}</h1>",
        _status(study),
        f'<p class="question">{escape(study.study.question)}</p>',
        f'<h2>Short answer</h2><div class="answer">{bullets(found.answers)}</div>',
        standing_section(found.standings, found.comparisons),
        missing_section(study),
        f'<h2>Warnings</h2><div class="warnings">{bullets(warnings)}</div>' if warnings else "",
        f"<h2>Method</h2>{bullets(method)}" if method else "",
        "<h2>Results</h2>",
        results_section(cells),
        comparison_section(found.comparisons),
        published_section(study, cells),
        extras.protocol_section(found.costs),
        extras.pareto_section(found.fronts, objective),
        scaling_section(found.deeper),
        space_section(found.deeper),
        rank_section(found.deeper),
        importance_section(found.deeper),
        memory_section(found.deeper),
        interference_section(found.deeper),
        cost_section(found.deeper),
        "<h2>Figures</h2>" if pictures else "",
        "".join(as_html(one) for one in pictures),
        extras.failure_section(study, cells),
        extras.estimate_section(study),
        reproduce_section(study),
        trial_section(study, cells),
        "</body></html>",
    ]
    return "\n".join(one for one in parts if one) + "\n"


def _status(study: StudyRecords) -> str:
    complete = study.status == "complete"
    text = "complete" if complete else f"incomplete: {study.status}"
    style = "status" if complete else "status open"
    counts = f"{len(study.cells)} cells, {len(study.trials)} trials"
    wall = "" if study.wall_seconds is None else f", {duration(study.wall_seconds)} wall time"
    if len(study.sessions) > 1:
        wall += f" in {len(study.sessions)} sessions"
    if study.last_time is not None:
        wall += f"; last record of {moment(study.last_time)}"
    return f'<p><span class="{style}">{escape(text)}</span> {escape(counts + wall)}</p>'
