"""The report as one HTML page that needs nothing else: no network, no other file."""

from collections.abc import Sequence
from html import escape

import yaml

from study.analysis import extras
from study.analysis.entities import StudyRecords, TrialRecord
from study.analysis.findings import Findings
from study.analysis.gallery import Picture
from study.analysis.markup import bullets, table
from study.analysis.method import method_lines
from study.analysis.scaling import Comparison
from study.analysis.summary import CellSummary, setting_text, text_rows
from study.analysis.wording import DASH, percent, verdict

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
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MEASURED = (
    "The search of each cell looks at a validation split cut from the training images; its best "
    "setting is then trained again on every seed and looked at on test images: only these "
    "confirmations stand behind the accuracies below. An interval is the 95 % t-interval of the "
    "mean over seeds. Methods are compared on the same seeds (paired t-test, Holm's correction "
    "over all comparisons); where the interval of the difference contains 0, or the corrected p "
    "is above 0.05, it says “not enough evidence”."
)


def page(found: Findings, pictures: Sequence[Picture]) -> str:
    """The whole page. All text from the ledger is escaped."""
    study, cells, warnings = found.study, found.cells, found.warnings
    name = escape(study.study.name)
    answers = "".join(
        f"<h3>{escape(one.group)}</h3>{bullets(one.sentences)}" for one in found.answers
    )
    compared = _comparisons(found.comparisons) if found.comparisons else ""
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
        f'<h2>Short answer</h2><div class="answer">{answers}</div>',
        f'<h2>Warnings</h2><div class="warnings">{bullets(warnings)}</div>' if warnings else "",
        f"<h2>Method</h2>{bullets(method)}" if method else "",
        "<h2>Results</h2>",
        _results(cells),
        f"<h2>Methods compared</h2>{compared}" if compared else "",
        extras.protocol_section(found.costs),
        extras.pareto_section(found.fronts, objective),
        "<h2>Figures</h2>" if pictures else "",
        "".join(_figure(one) for one in pictures),
        extras.failure_section(study, cells),
        extras.estimate_section(study),
        "<h2>How to reproduce</h2>",
        _reproduce(study),
        "<h2>All trials</h2>",
        _trials(study, cells),
        "</body></html>",
    ]
    return "\n".join(one for one in parts if one) + "\n"


def _status(study: StudyRecords) -> str:
    complete = study.status == "complete"
    text = "complete" if complete else f"incomplete: {study.status}"
    style = "status" if complete else "status open"
    counts = f"{len(study.cells)} cells, {len(study.trials)} trials"
    wall = "" if study.wall_seconds is None else f", {study.wall_seconds:.0f} s wall time"
    if len(study.sessions) > 1:
        wall += f" in {len(study.sessions)} sessions"
    return f'<p><span class="{style}">{escape(text)}</span> {counts}{wall}</p>'


def _results(cells: Sequence[CellSummary]) -> str:
    chances = sorted({one.chance for one in cells if one.chance is not None})
    chance = " or ".join(f"{percent(one)} %" for one in chances)
    rows = [
        {**row, "cell": f"{row['cell']}\n({one.reference})" if one.reference else row["cell"]}
        for one, row in zip(cells, text_rows(cells), strict=True)
    ]
    numbers = {
        name for name in (rows[0] if rows else {}) if name.endswith((", %", "points", ", s"))
    }
    note = f" Chance, over all classes: {chance}." if chance else ""
    return (
        f'<p class="small">{escape(MEASURED + note)} ± is half the interval, sd '
        "the standard deviation over seeds. AAA: average anytime accuracy, the mean of "
        "the accuracies after each task. Forgetting: what a task lost since its best, mean over "
        "tasks. Plasticity: accuracy on a task right after learning it. Seconds are summed over "
        "all trials of the cell.</p>" + table(rows, numbers)
    )


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    rows = [
        {
            "cells": one.group,
            "difference in final accuracy": f"{one.first} minus {one.second}",
            **extras.tested(one),
            "verdict": verdict(one),
        }
        for one in comparisons
    ]
    return table(rows, set(extras.TESTED))


def _figure(one: Picture) -> str:
    return (
        f"<figure><h3>{escape(one.title)}</h3>"
        f'<img src="{escape(one.uri)}" alt="{escape(one.title)}">'
        f"<figcaption>{escape(one.caption)}</figcaption>{bullets(one.notes)}</figure>"
    )


def _reproduce(study: StudyRecords) -> str:
    about = study.study
    seeds = {
        role: sorted({one.seed for one in study.trials if one.role == role})
        for role in ("search", "confirm")
    }
    facts = {
        "commit": about.commit or "not known",
        "host": about.host,
        "packages": ", ".join(f"{name} {version}" for name, version in about.versions.items()),
        "seeds of the searches": _numbers(seeds["search"]),
        "seeds of the confirmations": _numbers(seeds["confirm"]),
    }
    rows = [{"what": key, "value": value} for key, value in facts.items()]
    text = yaml.safe_dump(dict(about.spec), sort_keys=False, allow_unicode=True)
    return (
        "<p>The study file below is also in this folder, as study.yaml. From the root of the "
        "repository at the commit named here:</p>"
        "<pre>python study/run.py PATH/TO/study.yaml --output NEW_FOLDER</pre>"
        f"{table(rows, set())}"
        f"<details><summary>The study file</summary><pre>{escape(text)}</pre></details>"
    )


def _trials(study: StudyRecords, cells: Sequence[CellSummary]) -> str:
    labels = {one.cell: one.label for one in cells}
    rows = [
        {
            "trial": one.trial,
            "cell": labels.get(one.cell, one.cell),
            "role": one.role,
            "seed": str(one.seed),
            "setting": setting_text(one.searched),
            "status": one.status,
            "tasks seen": _seen(one),
            "last accuracy": _last_accuracy(one),
            "wall, s": f"{one.seconds:.0f}",
            "error": (one.error or "").strip()[-400:],
        }
        for one in study.trials
    ]
    numbers = {"seed", "tasks seen", "last accuracy", "wall, s"}
    return f"<details><summary>{len(rows)} trials</summary>{table(rows, numbers)}</details>"


def _seen(one: TrialRecord) -> str:
    seen = one.tasks[-1].task if one.tasks else 0
    return str(seen) if one.planned is None else f"{seen} of {one.planned}"


def _last_accuracy(one: TrialRecord) -> str:
    for split in ("test", "val"):
        value = one.final(f"{split}/accuracy")
        if value is not None:
            return f"{split} {percent(value)} %"
    return DASH


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(str(one) for one in values) or "none"
