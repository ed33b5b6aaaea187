import pytest
from scipy import stats

from study.ledger.ledger import Record
from study.report.section import findings
from study.report.sections.answers.protocols import ProtocolCost, cost_sentence, protocol_costs
from tests.study.histories import study_of
from tests.study.report.engine_ledgers import compared_protocols
from tests.study.report.ledgers import OFFSETS
from tests.study.report.studies import exchanged, without


def costs_of(records: list[Record]) -> list[ProtocolCost]:
    known = findings(study_of(records))
    return protocol_costs(known.study, known.cells)


def test_what_a_protocol_costs_is_paired_over_the_seeds() -> None:
    ten, five = costs_of(compared_protocols())
    assert (ten.label, five.label) == ("inflora, 10 tasks", "inflora, 5 tasks")
    assert ten.honest.mean == pytest.approx(0.6 - 0.03)
    assert ten.whole_stream.mean == pytest.approx(0.6)
    assert ten.comparison.difference.mean == pytest.approx(-0.03)
    assert ten.comparison.difference.std == pytest.approx(0.001)
    honest = [0.6 + OFFSETS[seed] - 0.03 - 0.001 * (seed - 1) for seed in range(3)]
    whole = [0.6 + OFFSETS[seed] for seed in range(3)]
    ends = stats.ttest_rel(honest, whole).confidence_interval(0.95)
    change = ten.comparison.difference
    assert (change.low, change.high) == pytest.approx((float(ends.low), float(ends.high)))


def test_one_common_seed_has_no_interval() -> None:
    records = without(
        compared_protocols({10: 0.03}),
        lambda trial: trial["role"] == "confirm" and trial["seed"] > 0,
    )
    assert cost_sentence(costs_of(records)).endswith("by −2.9 points (1 common seed).")
    assert cost_sentence(()) == ""


def test_protocols_are_never_mixed_into_a_comparison_of_methods() -> None:
    records = compared_protocols({10: 0.03})
    twin = exchanged(records[1:], "inflora", "sd_lora")
    known = findings(study_of([*records[:-1], *twin]))
    groups = {cell.group for cell in known.cells}
    assert groups == {"10 tasks, protocol first_k_tasks", "10 tasks, protocol whole_stream"}
    pairs = [(pair.group, pair.first, pair.second) for pair in known.comparisons]
    assert sorted(pairs) == sorted((group, "inflora", "sd_lora") for group in groups)
    assert len(protocol_costs(known.study, known.cells)) == 2


def test_a_cell_with_nothing_to_search_has_no_protocol_to_compare() -> None:
    records = compared_protocols()
    for record in records:
        record |= {"search": {}} if record["kind"] == "cell" else {}
    assert costs_of(records) == []
