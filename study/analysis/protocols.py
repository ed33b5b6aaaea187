"""What an honest tuning protocol costs, against settings chosen on the whole stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.analysis import scaling
from study.analysis.entities import StudyRecords
from study.analysis.method import WHOLE_STREAM
from study.analysis.scaling import Comparison, Interval
from study.analysis.summary import CellSummary
from study.analysis.wording import between, p_text, percent
from study.labels import OF_SEARCH, PROTOCOL, cell_label, shown_keys, varying_keys


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


def protocol_costs(study: StudyRecords, cells: Sequence[CellSummary]) -> list[ProtocolCost]:
    """All pairs of searched cells that differ in their protocol only (and where it tuned them).

    Cells with nothing to search are left out: for them both protocols are the same.
    """
    summaries = {one.cell: one for one in cells}
    keys = {one.cell: _without_search(one.key) for one in study.cells}
    shown = shown_keys([(keys[one.cell], one.fixed) for one in study.cells])
    varying = varying_keys(shown)
    labels = {
        one.cell: cell_label(key, varying) for one, key in zip(study.cells, shown, strict=True)
    }
    pairs: list[tuple[str, str, CellSummary, CellSummary]] = []
    for one in study.cells:
        name = one.key.get(PROTOCOL)
        if name in (None, WHOLE_STREAM) or not one.search:
            continue
        for other in study.cells:
            if other.key.get(PROTOCOL) == WHOLE_STREAM and keys[other.cell] == keys[one.cell]:
                pair = (summaries[one.cell], summaries[other.cell])
                pairs.append((labels[one.cell], str(name), *pair))
    groups = {
        label: {name: honest.finals, WHOLE_STREAM: whole.finals}
        for label, name, honest, whole in pairs
    }
    comparisons = {one.group: one for one in scaling.compare(groups)}
    return [
        ProtocolCost(label, name, honest.final, whole.final, comparisons[label])
        for label, name, honest, whole in pairs
    ]


def cost_sentence(costs: Sequence[ProtocolCost]) -> str:
    """The cost in one sentence; "" where nothing was compared."""
    known = [one for one in costs if one.comparison.difference.n]
    if not known:
        return ""
    name = known[0].protocol
    differences = [one.comparison.difference for one in known]
    if len(known) == 1:
        (found,) = differences
        if found.n < 2:
            return (
                f"What {name} costs against whole_stream: {percent(found.mean)} points on one "
                "common seed, not enough evidence."
            )
        sure = "" if known[0].comparison.enough_evidence else ": not enough evidence of a cost"
        return (
            f"Choosing settings by {name} instead of whole_stream changes the final accuracy by "
            f"{percent(found.mean)} points (95 % interval {between(found)}, paired over {found.n} "
            f"seeds, p {p_text(known[0].comparison.p_holm)}){sure}."
        )
    mean = sum(one.mean for one in differences) / len(differences)
    worse = [one for one in known if one.comparison.enough_evidence and _mean(one) < 0]
    better = [one for one in known if one.comparison.enough_evidence and _mean(one) > 0]
    return (
        f"Choosing settings by {name} instead of whole_stream changes the final accuracy by "
        f"{percent(min(one.mean for one in differences))} to "
        f"{percent(max(one.mean for one in differences))} points, {percent(mean)} on average over "
        f"{len(known)} pairs of cells; there is enough evidence that it is worse in "
        f"{len(worse)} of them, and better in {len(better)}."
    )


def _mean(one: ProtocolCost) -> float:
    return one.comparison.difference.mean


def _without_search(key: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in key.items() if not name.startswith(OF_SEARCH)}
