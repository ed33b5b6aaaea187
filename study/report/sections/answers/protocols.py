"""What the protocol costs: honest tuning against settings chosen on the whole stream."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from study.analysis.summary import CellSummary
from study.evidence import Comparison, Interval, intervals
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
from study.report.sections.answers.comparisons import TESTED, tested
from study.report.wording import between, p_text, percent, verdict, with_interval

TITLE = "What the protocol costs"


@dataclass(frozen=True)
class ProtocolCost:
    """Two cells that differ in the protocol alone; `difference` is the honest one minus the other.

    `honest` and `whole_stream` are final test accuracies, each over all its own seeds, and
    `comparison` is over the common ones; Holm's correction is over all such pairs of the study.
    """

    label: str
    protocol: str
    honest: Interval
    whole_stream: Interval
    comparison: Comparison


def section(findings: Findings) -> Section:
    """A table of the pairs; nothing on the page where protocols were not compared."""
    costs = protocol_costs(findings.study, findings.cells)
    data = [{**asdict(cost), "enough_evidence": cost.comparison.enough_evidence} for cost in costs]
    blocks: tuple[Block, ...] = ()
    if costs:
        name = costs[0].protocol
        rows = [
            {
                "cells": cost.label,
                f"{name}, %": with_interval(cost.honest),
                "whole_stream, %": with_interval(cost.whole_stream),
                **tested(cost.comparison),
                "verdict": verdict(cost.comparison),
            }
            for cost in costs
        ]
        about = (
            f"Final accuracy on test images with settings chosen by {name}, and with those chosen "
            f"on the whole stream. Points: {name} minus whole_stream on the same seeds (paired "
            f"t-test; Holm's correction over these {len(costs)} pairs)."
        )
        blocks = (Paragraph(about), Table(rows, {f"{name}, %", "whole_stream, %", *TESTED}))
    return Section(TITLE, blocks, {"protocol_costs": data})


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
    name = known[0].protocol
    changes = [cost.comparison.difference for cost in known]
    if len(known) == 1:
        (change,) = changes
        if change.n < 2:
            return (
                f"What {name} costs against whole_stream: {percent(change.mean)} points on one "
                "common seed, not enough evidence."
            )
        sure = "" if known[0].comparison.enough_evidence else ": not enough evidence of a cost"
        return (
            f"Choosing settings by {name} instead of whole_stream changes the final accuracy by "
            f"{percent(change.mean)} points (95 % interval {between(change)}, paired over "
            f"{change.n} seeds, p {p_text(known[0].comparison.p_holm)}){sure}."
        )
    means = [change.mean for change in changes]
    sure_means = [
        cost.comparison.difference.mean for cost in known if cost.comparison.enough_evidence
    ]
    return (
        f"Choosing settings by {name} instead of whole_stream changes the final accuracy by "
        f"{percent(min(means))} to {percent(max(means))} points, "
        f"{percent(sum(means) / len(means))} on average over {len(known)} pairs of cells; there is "
        f"enough evidence that it is worse in {sum(mean < 0 for mean in sure_means)} of them, and "
        f"better in {sum(mean > 0 for mean in sure_means)}."
    )


def _without_search(key: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in key.items() if not name.startswith(OF_SEARCH)}
