"""What the protocol costs: honest tuning against settings chosen on the whole stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.analysis.summary import CellSummary
from study.evidence import Comparison, Interval, count, intervals
from study.ledger import (
    OF_SEARCH,
    PROTOCOL,
    WHOLE_STREAM,
    StudyRecords,
    cell_label,
    shown_keys,
    varying_keys,
)
from study.report.section import Block, Findings, Paragraph, Section, Table
from study.report.sections.answers.comparisons import DESCRIBED, described
from study.report.wording import between, percent, with_interval

TITLE = "What the protocol costs"


@dataclass(frozen=True)
class ProtocolCost:
    """Two cells that differ in the protocol alone; `difference` is the honest one minus the other.

    `honest` and `whole_stream` are final test accuracies, each over all its own seeds, and
    `comparison` is over the common ones.
    """

    label: str
    protocol: str
    honest: Interval
    whole_stream: Interval
    comparison: Comparison


def section(findings: Findings) -> Section:
    """A table of the pairs; nothing on the page where protocols were not compared."""
    costs = protocol_costs(findings.study, findings.cells)
    blocks: tuple[Block, ...] = ()
    if costs:
        name = costs[0].protocol
        rows = [
            {
                "cells": cost.label,
                f"{name}, %": with_interval(cost.honest),
                "whole_stream, %": with_interval(cost.whole_stream),
                **described(cost.comparison),
            }
            for cost in costs
        ]
        about = (
            f"Final accuracy on test images with settings chosen by {name}, and with those chosen "
            f"on the whole stream. Points: {name} minus whole_stream on the same seeds, each with "
            f"its own 95 % interval: a description, not a test."
        )
        blocks = (Paragraph(about), Table(rows, {f"{name}, %", "whole_stream, %", *DESCRIBED}))
    return Section(TITLE, blocks, {"protocol_costs": costs})


def protocol_costs(study: StudyRecords, cells: Sequence[CellSummary]) -> list[ProtocolCost]:
    """All pairs of searched cells that differ in their protocol only (and where it tuned them).

    Cells with nothing to search are left out: for them both protocols are the same.
    """
    summaries = {cell.cell: cell for cell in cells}
    keys = {cell.cell: _without_search(cell.key) for cell in study.cells}
    shown = shown_keys([(keys[cell.cell], cell.fixed) for cell in study.cells])
    varying = varying_keys(shown)
    labels = {
        cell.cell: cell_label(key, varying) for cell, key in zip(study.cells, shown, strict=True)
    }
    pairs: list[tuple[str, str, CellSummary, CellSummary]] = []
    for cell in study.cells:
        name = cell.key.get(PROTOCOL)
        if name in (None, WHOLE_STREAM) or not cell.search:
            continue
        for other in study.cells:
            if other.key.get(PROTOCOL) == WHOLE_STREAM and keys[other.cell] == keys[cell.cell]:
                pair = (summaries[cell.cell], summaries[other.cell])
                pairs.append((labels[cell.cell], str(name), *pair))
    groups = {
        label: {name: honest.finals, WHOLE_STREAM: whole.finals}
        for label, name, honest, whole in pairs
    }
    comparisons = {pair.group: pair for pair in intervals.compare(groups)}
    return [
        ProtocolCost(label, name, honest.final, whole.final, comparisons[label])
        for label, name, honest, whole in pairs
    ]


def cost_sentence(costs: Sequence[ProtocolCost]) -> str:
    """The cost in one sentence; "" where nothing was compared."""
    known = [cost for cost in costs if cost.comparison.difference.n]
    if not known:
        return ""
    changes = [cost.comparison.difference for cost in known]
    begin = f"Choosing settings by {known[0].protocol} instead of whole_stream changes the final"
    if len(known) == 1:
        (change,) = changes
        seeds = count(change.n, "common seed")
        interval = f"95 % interval {between(change)}, " if change.n > 1 else ""
        return f"{begin} accuracy by {percent(change.mean)} points ({interval}{seeds})."
    means = [change.mean for change in changes]
    return (
        f"{begin} accuracy by {percent(min(means))} to {percent(max(means))} points, "
        f"{percent(sum(means) / len(means))} on average over {len(known)} pairs of cells."
    )


def _without_search(key: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in key.items() if not name.startswith(OF_SEARCH)}
