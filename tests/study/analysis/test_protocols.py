from typing import Any

import pytest
from scipy import stats

from study.analysis.entities import StudyRecords
from study.analysis.findings import findings
from study.analysis.method import method_lines
from study.analysis.protocols import ProtocolCost, cost_sentence
from study.analysis.records import from_records
from study.analysis.summary import text_rows
from study.ledger import Record
from tests.study.analysis import engine_ledgers
from tests.study.analysis.engine_ledgers import SEARCH, compared_protocols, transferred
from tests.study.analysis.ledgers import OFFSETS, made_up_study

MINUS = "\N{MINUS SIGN}"


def costs_of(records: list[Record]) -> tuple[ProtocolCost, ...]:
    return findings(from_records(records)).costs


def test_what_a_protocol_costs_is_paired_over_the_seeds() -> None:
    ten, five = costs_of(compared_protocols())
    assert (ten.label, five.label) == ("inflora, 10 tasks", "inflora, 5 tasks")
    assert ten.honest.mean == pytest.approx(0.6 - 0.03)
    assert ten.whole_stream.mean == pytest.approx(0.6)
    assert ten.comparison.difference.mean == pytest.approx(-0.03)
    assert ten.comparison.difference.std == pytest.approx(0.001)
    honest = [0.6 + OFFSETS[seed] - 0.03 - 0.001 * (seed - 1) for seed in range(3)]
    whole = [0.6 + OFFSETS[seed] for seed in range(3)]
    p = float(stats.ttest_rel(honest, whole).pvalue)
    assert ten.comparison.p == pytest.approx(p)
    # Holm over the two pairs of this table, and over nothing else.
    assert ten.comparison.p_holm == pytest.approx(2 * p)
    assert ten.comparison.enough_evidence
    assert not five.comparison.enough_evidence


def test_the_short_answer_says_what_the_protocol_costs() -> None:
    found = findings(from_records(compared_protocols()))
    sentence = found.answers[-1]
    assert sentence.startswith(
        "Choosing settings by first_k_tasks instead of whole_stream changes the final accuracy by "
        f"{MINUS}3.0 to 0.0 points, {MINUS}1.5 on average over 2 pairs of cells"
    )
    assert "worse in 1 of them, and better in 0" in sentence


def test_one_pair_is_told_with_its_interval() -> None:
    text = cost_sentence(costs_of(compared_protocols({10: 0.03})))
    assert f"by {MINUS}3.0 points (95 % interval {MINUS}3.2 to {MINUS}2.8, paired over 3" in text
    assert text.endswith("seeds, p = 0.00037).")
    assert cost_sentence(costs_of(compared_protocols({10: 0.0}))).endswith(
        "not enough evidence of a cost."
    )
    assert cost_sentence(()) == ""


def test_protocols_are_never_mixed_into_a_comparison_of_methods() -> None:
    records = compared_protocols({10: 0.03})
    twin = [_as_method(one, "sd_lora") for one in records if one["kind"] not in ("study",)]
    found = findings(from_records([*records[:-1], *twin]))
    groups = {one.group for one in found.cells}
    assert groups == {"10 tasks, protocol first_k_tasks", "10 tasks, protocol whole_stream"}
    pairs = [(one.group, one.first, one.second) for one in found.comparisons]
    assert sorted(pairs) == sorted((group, "inflora", "sd_lora") for group in groups)
    assert len(found.costs) == 2


def _as_method(record: Record, method: str) -> Record:
    def one(value: object) -> object:
        if isinstance(value, dict):
            return {key: one(entry) for key, entry in value.items()}
        return value.replace("inflora", method) if isinstance(value, str) else value

    return {key: one(entry) for key, entry in record.items()}


def test_a_cell_with_nothing_to_search_has_no_protocol_to_compare() -> None:
    records = [
        {**one, "search": {}} if one["kind"] == "cell" else one for one in compared_protocols()
    ]
    assert costs_of(records) == ()


def test_without_a_comparison_there_is_no_table() -> None:
    found = findings(from_records(made_up_study(tasks=(10,))))
    assert found.costs == ()
    assert "Choosing settings by" not in " ".join(found.answers)


def test_a_search_of_the_first_tasks_says_so_beside_its_value() -> None:
    rows = text_rows(findings(from_records(compared_protocols())).cells)
    found = {row["cell"]: row["best in search"] for row in rows}
    assert found["inflora, 10 tasks, protocol first_k_tasks"] == (
        "val/accuracy\n90.0 %\nafter 3 of 10 tasks"
    )
    assert found["inflora, 10 tasks, protocol whole_stream"] == "val/accuracy\n90.0 %"


def test_cells_with_settings_from_elsewhere_say_from_where() -> None:
    found = findings(from_records(transferred()))
    assert [one.label for one in found.cells] == [
        "inflora, 10 tasks, icons",
        "inflora, 10 tasks, gaussian, tuned on icons",
    ]
    assert text_rows(found.cells)[1]["best in search"].endswith("in inflora, 10 tasks, icons")
    assert [one.final.n for one in found.cells] == [2, 2]


def lines(**spec: Any) -> str:
    script = engine_ledgers.Script()
    script.open(**spec)
    script.cell({"method.name": "inflora"})
    study: StudyRecords = from_records(script.records)
    return "\n".join(method_lines(study))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "Tuning protocol: whole_stream. Settings are chosen on validation images of every"),
        (
            {"search": {**SEARCH, "protocol": "first_k_tasks", "first_tasks": 3}},
            "first_k_tasks. Settings are chosen on validation images of the first 3 tasks only",
        ),
        (
            {"search": {**SEARCH, "protocol": "transfer", "confirm_on": [{"data.name": "cub"}]}},
            "transfer. Settings are chosen on validation images of the class order of seed 0 and "
            "confirmed on other class orders, and on other data: data.name=cub.",
        ),
        (
            {"search": {**SEARCH, "protocol": "transfer"}},
            "is trained again on the seeds 1, 2, not on that of the search.",
        ),
        ({}, "is trained again on the seeds 0, 1, 2."),
        ({"search": {**SEARCH, "compare": True}}, "searched by whole_stream as well"),
        ({}, "Sampler: nsga2. Tried before it is asked: the settings that hold without"),
        ({}, "judged by: accuracy."),
        (
            {
                "pruner": {
                    **engine_ledgers.PRUNER,
                    "criterion": "accuracy_minus_forgetting",
                    "forgetting_weight": 0.5,
                }
            },
            "judged by: accuracy minus 0.5 × forgetting.",
        ),
        ({"pruner": {"kind": "none"}}, "Pruner: none"),
        ({}, "Budget: up to 5 search trials a cell, fewer where 2 GPU hours were used up first."),
        ({"budget": {}}, "Budget: up to 5 search trials a cell."),
        ({}, "Objectives: val/accuracy (more is better); memory/subspace_bytes (less is better)."),
    ],
)
def test_the_method_is_told(spec: dict[str, object], expected: str) -> None:
    assert expected in lines(**spec)


def test_the_method_of_an_old_ledger_is_whole_stream() -> None:
    assert "whole_stream" in lines(search="all")
    assert "whole_stream" in lines(search={"inflora": {"method.rank": None}})


def test_where_nothing_was_searched_no_sampler_is_named() -> None:
    script = engine_ledgers.Script()
    script.open()
    script.cell({"method.name": "joint"})
    script.records[-1]["search"] = {}
    text = "\n".join(method_lines(from_records(script.records)))
    assert text.startswith("Nothing was searched")
    assert "nsga2" not in text
