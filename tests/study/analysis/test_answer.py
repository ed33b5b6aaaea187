import re
from typing import Any

import pytest

from study.analysis import answer, cautions
from study.analysis.records import from_records
from study.analysis.summary import compare_methods, summarise, summary_rows
from study.analysis.wording import p_text, percent
from study.labels import cell_label
from study.ledger import Record
from tests.study.analysis import ledgers
from tests.study.analysis.ledgers import made_up_study


def answers_of(records: list[Record]) -> dict[str, str]:
    cells = summarise(from_records(records))
    found = answer.answers(cells, compare_methods(cells))
    return {one.group: " ".join(one.sentences) for one in found}


def warnings_of(records: list[Record]) -> str:
    study = from_records(records)
    cells = summarise(study)
    return "\n".join(cautions.warnings(study, cells, compare_methods(cells)))


def exchanged(records: list[Record], first: str, second: str) -> list[Record]:
    """The same study with the names of two methods exchanged."""

    def one(value: object) -> object:
        if isinstance(value, dict):
            return {key: one(entry) for key, entry in value.items()}
        if isinstance(value, str):
            other = value.replace(first, "\0").replace(second, first)
            return other.replace("\0", second)
        return value

    return [{key: one(entry) for key, entry in record.items()} for record in records]


def test_a_method_that_is_better_is_said_to_be_so_with_its_numbers() -> None:
    found = answers_of(made_up_study())
    assert list(found) == ["10 tasks", "50 tasks", "More tasks"]
    text = found["50 tasks"]
    mean = sum(ledgers.accuracy("sd_lora", seed, 50, 50) for seed in range(3)) / 3
    assert f"sd_lora with {100 * mean:.1f} %" in text
    assert "chance is 1.0 %" in text
    assert "sd_lora is better than inflora: difference 8." in text
    assert "inflora beats sequential fine-tuning" in text
    assert "sd_lora beats sequential fine-tuning" in text
    assert "not enough" not in text.lower()
    assert (
        "inflora: from 10 to 50 tasks final accuracy changes by \N{MINUS SIGN}12.0"
        in (found["More tasks"])
    )


def test_reference_points_are_in_every_table_and_are_not_called_the_best_method() -> None:
    methods = ("inflora", "sd_lora", "sequential", "joint", "linear_heads")
    records = made_up_study(methods=methods)
    cells = summarise(from_records(records))
    assert {one.method for one in cells if one.reference} == {"sequential", "joint", "linear_heads"}
    assert [row["cell"] for row in summary_rows(records)].count("joint, 10 tasks") == 1
    compared = {(one.first, one.second) for one in compare_methods(cells)}
    assert ("inflora", "joint") in compared and ("sd_lora", "linear_heads") in compared
    # Two references are not: that would only weaken what is asked.
    assert ("sequential", "joint") not in compared
    text = answers_of(records)["50 tasks"]
    assert "Highest mean final accuracy: sd_lora with" in text
    assert "The reference point joint (upper bound" in text
    found = re.search(
        "inflora minus other reference points, in points: "
        r"joint \N{MINUS SIGN}(\S+) \(worse\); linear_heads \+(\S+) \(better\)\.",
        text,
    )
    assert found
    # By construction 30 and 10, but for the ripple over seeds.
    assert [float(one) for one in found.groups()] == pytest.approx([30, 10], abs=0.5)


def test_a_method_that_loses_to_sequential_fine_tuning_is_said_to() -> None:
    text = answers_of(exchanged(made_up_study(), "inflora", "sequential"))["50 tasks"]
    assert "inflora does NOT beat sequential fine-tuning, it is worse" in text
    assert "sd_lora beats sequential fine-tuning" in text


def test_a_difference_lost_in_noise_is_not_enough_evidence() -> None:
    text = answers_of(made_up_study(ripple=0.2))["50 tasks"]
    assert "Not enough evidence that sd_lora beats sequential fine-tuning" in text
    assert "Not enough evidence that" in text.split("sequential")[0]
    assert "is better than" not in text.replace("Not enough evidence that sd_lora is better", "")


def test_one_seed_is_never_enough_evidence() -> None:
    records = made_up_study(seeds=(0,))
    text = answers_of(records)["10 tasks"]
    assert "no interval, n = 1" in text
    assert "Whether inflora beats sequential fine-tuning: not enough evidence" in text
    assert "fewer than 2 seeds" in warnings_of(records)


def test_without_confirmations_there_is_no_answer() -> None:
    records = made_up_study(seeds=())
    assert answers_of(records)["10 tasks"].startswith("No cell has been confirmed")


def test_without_a_baseline_nothing_is_said_about_it() -> None:
    assert "sequential" not in answers_of(made_up_study(methods=("inflora", "sd_lora")))["50 tasks"]


def test_a_method_at_chance_is_named() -> None:
    records = [
        {**one, "chance": 0.15} if one["kind"] == "study" else one for one in made_up_study()
    ]
    text = answers_of(records)["50 tasks"]
    assert "sequential is not shown to be above chance: 15." in text
    assert "sd_lora is not shown" not in text


def test_the_first_exhausted_layer_and_task_are_named() -> None:
    text = warnings_of(made_up_study())
    assert (
        "inflora, 50 tasks: fewer free dimensions than the rank (8) first in layer_03 after "
        "task 35 (on all 3 seeds); none left at all first in layer_03 after task 40"
    ) in text
    assert "Exhausted: sd_lora, 10 tasks" not in text
    assert "Exhausted: sequential" not in text


def test_failures_and_unequal_budgets_are_warned_of() -> None:
    records = made_up_study(tasks=(10,))
    assert "3 of 21 trials failed with “ValueError: loss is NaN <script>”" in warnings_of(records)
    assert "unequal" not in warnings_of(records)
    ends = [one["trial"] for one in records if one["kind"] == "end"]
    fewer = [one for one in records if one.get("trial") != ends[0]]
    assert "10 tasks: unequal search budgets (trials that ended: inflora 3, sd_lora 4" in (
        warnings_of(fewer)
    )


def test_a_cell_without_winner_is_warned_of() -> None:
    records = made_up_study(methods=("inflora",), tasks=(10,), seeds=())
    cell = records[1]["cell"]
    lost = {"kind": "failed_cell", "cell": cell, "error": "none of 4 saw all tasks", "time": 2e6}
    assert "inflora, 10 tasks: no result, since none of 4 saw all tasks." in (
        warnings_of([*records, lost])
    )
    winner = next(one for one in records if one["kind"] == "winner")
    assert "no result" not in warnings_of([*records, lost, winner])


def test_different_seeds_are_warned_of() -> None:
    records = made_up_study(tasks=(10,))
    lost = next(one["trial"] for one in records if one.get("role") == "confirm")
    text = warnings_of([one for one in records if one.get("trial") != lost])
    assert "methods were confirmed on different seeds (inflora [1, 2]" in text


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_an_incomplete_study_says_so(share: float) -> None:
    records = made_up_study(layers=1)
    text = warnings_of(records[: int(share * len(records))])
    assert text.startswith("This study is running.")


def test_labels_come_from_any_key() -> None:
    key = {"data.tasks": 50, "method.name": "inflora", "method.rank": 8, "data.name": "icons"}
    assert cell_label(key, {"method.rank", "data.name"}) == "inflora, 50 tasks, rank 8, icons"
    assert cell_label(key, set()) == "inflora, 50 tasks"
    assert cell_label({"optim.lr": 0.001, "head.lr": 1}, {"optim.lr", "head.lr"}) == (
        "optim.lr 0.001, head.lr 1"
    )
    assert cell_label({"data.tasks": 1}, set()) == "1 task"


def test_cells_of_other_keys_are_other_groups() -> None:
    records = made_up_study(tasks=(10,), key={"method.rank": 4})
    more = made_up_study(tasks=(10,), key={"method.rank": 8})
    cells = summarise(from_records([*records[:-1], *more[1:]]))
    assert {one.group for one in cells} == {"10 tasks, rank 4", "10 tasks, rank 8"}
    assert len(compare_methods(cells)) == 6


def test_the_summary_rows_are_text_for_a_terminal() -> None:
    first, *others = summary_rows(made_up_study())
    assert len(others) == 5
    assert first["cell"] == "inflora, 10 tasks"
    assert first["final accuracy, %"].startswith("62.0 ± 2.")
    assert first["best setting"] == "optim.lr=0.0005"
    assert first["search trials"].split() == ["2", "completed", "1", "failed", "1", "pruned"]
    assert all(isinstance(one, str) for one in first.values())
    assert {tuple(one) for one in others} == {tuple(first)}


def test_numbers_are_written_for_people() -> None:
    minus = "\N{MINUS SIGN}"
    assert [percent(one) for one in (0.1234, -0.5, -0.0001)] == ["12.3", f"{minus}50.0", "0.0"]
    assert percent(float("nan")) == percent(None) == "\N{EN DASH}"
    assert p_text(1e-9) == "< 0.0001"


def not_searched(records: list[Record], method: str) -> list[Record]:
    """The same study where the cells of a method had nothing to search."""
    cells = {one["cell"] for one in records if one["kind"] == "cell" and method in one["cell"]}
    searches = {
        one["trial"]
        for one in records
        if one["kind"] == "trial" and one["role"] == "search" and one["cell"] in cells
    }
    bare: dict[str, Any] = {"searched": {}, "value": None}
    kept = [one for one in records if one.get("trial") not in searches]
    return [
        {**one, **bare} if one["kind"] == "winner" and one["cell"] in cells else one for one in kept
    ]


def test_methods_that_were_not_searched_beside_others_are_warned_of() -> None:
    records = not_searched(made_up_study(tasks=(10,)), "sequential")
    assert (
        "10 tasks: settings of inflora, sd_lora were searched, those of sequential were not"
        in warnings_of(records)
    )
    assert [row["best in search"] for row in summary_rows(records)][-1] == "\N{EN DASH}"
    for method in ("inflora", "sd_lora"):
        records = not_searched(records, method)
    assert "were searched" not in warnings_of(records)
