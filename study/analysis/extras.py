"""Sections of the page that only some studies have: protocols, fronts, failures, estimates."""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from study.analysis import units
from study.analysis.entities import StudyRecords
from study.analysis.estimates import estimated
from study.analysis.failures import MOST, failed, failure_lines, last_line, reason_text
from study.analysis.findings import Findings
from study.analysis.markup import bullets, paragraph, table
from study.analysis.pareto import ParetoFront
from study.analysis.protocols import ProtocolCost
from study.analysis.scaling import Comparison
from study.analysis.summary import CellSummary, setting_text, with_interval
from study.analysis.wording import DASH, between, p_text, percent, verdict

TESTED = ("points", "95 % interval", "n", "p", "p (Holm)")


def tested(one: Comparison) -> dict[str, str]:
    """The columns of a paired comparison: the difference in points and what it is worth."""
    return {
        "points": percent(one.difference.mean),
        "95 % interval": between(one.difference),
        "n": str(one.difference.n),
        "p": p_text(one.p).removeprefix("= "),
        "p (Holm)": p_text(one.p_holm).removeprefix("= "),
    }


def protocol_section(costs: Sequence[ProtocolCost]) -> str:
    """What the protocol costs; "" where that was not asked."""
    if not costs:
        return ""
    name = costs[0].protocol
    rows = [
        {
            "cells": one.label,
            f"{name}, %": with_interval(one.honest),
            "whole_stream, %": with_interval(one.whole_stream),
            **tested(one.comparison),
            "verdict": verdict(one.comparison),
        }
        for one in costs
    ]
    about = (
        f"Final accuracy on test images with settings chosen by {name}, and with those chosen on "
        f"the whole stream. Points: {name} minus whole_stream on the same seeds (paired t-test; "
        f"Holm's correction over these {len(costs)} pairs)."
    )
    numbers = {f"{name}, %", "whole_stream, %", *TESTED}
    return f"<h2>What the protocol costs</h2>{paragraph(about)}{table(rows, numbers)}"


def pareto_section(fronts: Sequence[ParetoFront], objective: Mapping[str, str]) -> str:
    """Every non-dominated setting; "" for a single objective."""
    if not fronts:
        return ""
    parts = []
    for front in fronts:
        rows = [
            {
                "point": str(one.number),
                "setting": setting_text(one.setting, "\n"),
                **{
                    # Broken after the slash: a table has to fit into the column.
                    units.heading(metric).replace("/", "/\n"): units.text(
                        metric, one.values.get(metric)
                    )
                    for metric in objective
                },
                "test accuracy, %": with_interval(one.final),
                "sd, points": percent(one.final.std),
                "forgetting, points": percent(one.forgetting.mean),
                "held, MB": _megabytes(one.held_bytes),
                "peak, MB": _megabytes(one.peak_bytes),
                "compute, s": DASH if one.seconds is None else f"{one.seconds:.0f}",
            }
            for one in front.points
        ]
        source = f" (settings found in {front.tuned_in})" if front.tuned_in else ""
        numbers = set(rows[0]) - {"setting"}
        parts.append(f"<h3>{escape(front.label + source)}</h3>{table(rows, numbers)}")
    about = (
        "The settings of each cell that no other setting outdoes in all objectives, best in the "
        "first one first. The objectives were measured on validation images in the search; what "
        "stands behind them is the mean over the seeds each setting was confirmed on (± the 95 % "
        "t-interval). Held: subspace memory and branches after the last task; peak: of the "
        "device, or of the process where there is none; compute: of one confirmation."
    )
    return f"<h2>Settings on the Pareto front</h2>{paragraph(about)}{''.join(parts)}"


def failure_section(study: StudyRecords, cells: Sequence[CellSummary]) -> str:
    """Trials that failed or were started again; "" where there are none."""
    lines = failure_lines(study)
    if not lines:
        return ""
    labels = {one.cell: one.label for one in cells}
    rows = [
        {
            "cell": labels.get(one.cell, one.cell),
            "role": one.role,
            "seed": str(one.seed),
            "after task": str(one.tasks[-1].task if one.tasks else 0),
            "reason": reason_text(one),
            "setting": setting_text(one.searched, "\n"),
            "message": last_line(one)[:300],
        }
        for one in failed(study)[:MOST]
    ]
    listed = table(rows, {"seed", "after task"}) if rows else ""
    return f"<h2>Trials that failed or were started again</h2>{bullets(lines)}{listed}"


def estimate_section(study: StudyRecords) -> str:
    """The estimate and what happened; "" where there was none."""
    found = estimated(study)
    if not found or study.estimate is None:
        return ""
    rows = [
        {
            "what": one.what,
            "estimate": f"{one.estimate:.3g}",
            "what happened": DASH if one.actual is None else f"{one.actual:.3g}",
            "error of the estimate, %": _signed(one.error),
        }
        for one in found
    ]
    still = "" if study.status == "complete" else " The study is not complete yet."
    about = f"Estimated before the study ran, from {study.estimate.source}.{still}"
    numbers = {"estimate", "what happened", "error of the estimate, %"}
    return f"<h2>Estimate and what happened</h2>{paragraph(about)}{table(rows, numbers)}"


def as_data(found: Findings) -> dict[str, Any]:
    """The same sections for report.json."""
    study = found.study
    return {
        "protocol_costs": [
            {**dataclasses.asdict(one), "enough_evidence": one.comparison.enough_evidence}
            for one in found.costs
        ],
        "pareto_fronts": [dataclasses.asdict(one) for one in found.fronts],
        "failures": {
            "summary": failure_lines(study),
            "trials": {one.trial: reason_text(one) for one in failed(study)},
        },
        "estimate": [{**dataclasses.asdict(one), "error": one.error} for one in estimated(study)],
    }


def _megabytes(value: float | None) -> str:
    return DASH if value is None else f"{value / units.MEGA:.4g}"


def _signed(share: float | None) -> str:
    if share is None:
        return DASH
    return f"{'+' if share > 0 else ''}{percent(share, 0)}"
