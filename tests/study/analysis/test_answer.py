import math
from typing import Any

import pytest

from study.analysis import answer, cautions, gallery
from study.analysis.overview import standing_section
from study.analysis.records import from_records
from study.analysis.standing import standings
from study.analysis.summary import compare_methods, summarise, summary_rows
from study.analysis.wording import p_text, percent, verdict
from study.labels import cell_label, shown_keys, varying_keys
from study.ledger import Record
from tests.study.analysis import ledgers
from tests.study.analysis.ledgers import made_up_study


def answers_of(records: list[Record]) -> str:
    return " ".join(sentences_of(records))


def sentences_of(records: list[Record]) -> list[str]:
    cells = summarise(from_records(records))
    comparisons = compare_methods(cells)
    return answer.answers(cells, comparisons, standings(cells, comparisons))


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
    found = sentences_of(made_up_study())
    assert len(found) == 5
    text = " ".join(found)
    mean = sum(ledgers.accuracy("sd_lora", seed, 50, 50) for seed in range(3)) / 3
    assert f"sd_lora in 50 tasks, {100 * mean:.1f} % (95 % interval" in text
    assert "chance is 1.0 %" in text
    assert "50 tasks: sd_lora is shown to be better than inflora (+8." in text
    assert (
        "Against sequential fine-tuning (in 10 tasks and in 50 tasks): inflora and sd_lora are "
        "better." in text
    )
    assert "not enough" not in text.lower()
    assert (
        "From 10 to 50 tasks: final accuracy changes by, in points: inflora \N{MINUS SIGN}12.0 "
        "(95 % interval \N{MINUS SIGN}12." in text
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
    text = answers_of(records)
    assert "Highest mean final accuracy: sd_lora in 10 tasks" in text
    assert "Reference points with a mean at least as high as the best: joint 84" in text
    assert "50 tasks: sd_lora is shown to be better than inflora, sequential and linear_heads" in (
        text
    )
    assert "sd_lora is shown to be worse than joint (\N{MINUS SIGN}21." in text


def test_where_all_are_reference_points_they_are_compared() -> None:
    text = answers_of(made_up_study(methods=("sequential", "joint"), tasks=(10,)))
    assert "joint is shown to be better than sequential (+" in text


def test_a_method_that_loses_to_sequential_fine_tuning_is_said_to() -> None:
    text = answers_of(exchanged(made_up_study(tasks=(50,)), "inflora", "sequential"))
    assert "Against sequential fine-tuning: sd_lora is better, inflora is worse." in text


def test_a_difference_lost_in_noise_is_not_enough_evidence() -> None:
    text = answers_of(made_up_study(ripple=0.2))
    assert (
        "There is not enough evidence, in any of 2 groups of cells, that the highest differs from "
        "any other: inflora and sequential." in text
    )
    assert "Against sequential fine-tuning" in text
    assert "not enough evidence for inflora and sd_lora" in text
    assert "is shown to be" not in text
    assert "not enough evidence of a change for" in text


def with_finals(finals: dict[tuple[str, int], list[float]]) -> list[Record]:
    """The study of methods and tasks with these final test accuracies, seed by seed."""
    records = made_up_study(
        methods=tuple(dict.fromkeys(name for name, _ in finals)),
        tasks=tuple(dict.fromkeys(count for _, count in finals)),
    )
    confirmed = {
        one["trial"]: one
        for one in records
        if one["kind"] == "trial" and one.get("role") == "confirm"
    }
    for one in records:
        start = confirmed.get(one.get("trial", ""))
        if one["kind"] == "task" and start is not None:
            name, _, tasks = start["cell"].partition(",")
            key = (name.partition("=")[2], int(tasks.partition("=")[2]))
            if one["task"] == key[1]:
                one["metrics"]["test/accuracy"] = finals[key][start["seed"]]
    return records


def test_what_is_the_same_on_every_seed_is_called_identical() -> None:
    finals = {
        (name, count): [0.70, 0.72, 0.69] for name in ("inflora", "sd_lora") for count in (10, 50)
    }
    cells = summarise(from_records(with_finals(finals)))
    assert [verdict(one) for one in compare_methods(cells)] == ["identical on all 3 seeds"] * 2
    text = answers_of(with_finals(finals))
    assert (
        "Identical final accuracy on every seed: inflora = sd_lora in 10 tasks and in 50 tasks "
        "(all 3 seeds)." in text
    )
    assert "not enough evidence that" not in text.lower()
    assert "inflora and sd_lora in 10 tasks, 70.3 %" in text


def test_a_difference_that_is_not_shown_is_bounded_by_its_interval() -> None:
    text = answers_of(
        with_finals({("inflora", 10): [0.70, 0.72, 0.69], ("sd_lora", 10): [0.69, 0.72, 0.695]})
    )
    # Differences 1, 0 and −0.5 points: mean 0.17, half an interval 1.90.
    assert "either way: 10 tasks: from sd_lora 2.1." in text


def test_changes_with_the_tasks_are_corrected_for_the_number_of_methods() -> None:
    first = {("inflora", 10): [0.50, 0.53, 0.51], ("inflora", 50): [0.40, 0.45, 0.46]}
    assert "inflora \N{MINUS SIGN}7.7 (95 % interval " in answers_of(with_finals(first))
    # Its p of 0.03 is enough alone; as the least of four it counts as 0.13.
    many = dict(first)
    for name in ("sd_lora", "sequential", "joint"):
        many |= {(name, 10): [0.6, 0.5, 0.4], (name, 50): [0.5, 0.55, 0.39]}
    text = answers_of(with_finals(many))
    assert "inflora \N{MINUS SIGN}7.7" not in text
    assert "not enough evidence of a change for inflora, sd_lora" in text


def test_one_seed_is_never_enough_evidence() -> None:
    records = made_up_study(seeds=(0,))
    text = answers_of(records)
    assert "no interval, n = 1" in text
    assert "not enough evidence for inflora and sd_lora" in text
    assert "fewer than 2 seeds" in warnings_of(records)


def test_without_confirmations_there_is_no_answer() -> None:
    records = made_up_study(seeds=())
    assert answers_of(records).startswith("No cell has been confirmed")


def test_what_is_not_confirmed_is_left_out_by_name() -> None:
    records = made_up_study(tasks=(10,))
    place = next(
        at
        for at, one in enumerate(records)
        if one.get("cell") == "method.name=sequential,data.tasks=10" and one["kind"] == "cell"
    )
    assert answers_of(records[: place + 1]).endswith(
        "Not confirmed yet, and left out here: sequential, 10 tasks."
    )


def test_without_a_baseline_nothing_is_said_about_it() -> None:
    assert "sequential" not in answers_of(made_up_study(methods=("inflora", "sd_lora")))


def of_ranks(ranks: tuple[int, ...], tasks: tuple[int, ...] = (10,)) -> list[Record]:
    """A study of one method whose cells differ in the rank (and in the tasks)."""
    parts = [
        made_up_study(methods=("inflora",), tasks=tasks, key={"method.rank": rank})
        for rank in ranks
    ]
    # Two points more for each step of the rank, and a little of its own for each record.
    for step, part in enumerate(parts):
        for at, one in enumerate(part):
            if one["kind"] == "task" and "test/accuracy" in one["metrics"]:
                one["metrics"]["test/accuracy"] += step * (0.02 + 0.0002 * math.sin(at))
    return [parts[0][0], *(one for part in parts for one in part[1:-1]), parts[0][-1]]


def test_where_the_method_does_not_vary_its_settings_are_compared() -> None:
    text = answers_of(of_ranks((4, 8)))
    assert "Highest mean final accuracy: rank 8" in text
    assert "rank 8 is shown to be better than rank 4 (+2.0 points" in text


def test_many_groups_are_counted_and_told_apart_in_a_table() -> None:
    records = of_ranks((4, 8), tasks=(2, 3, 4, 5))
    found = sentences_of(records)
    assert len(found) <= 6
    assert "Of 4 groups of cells, highest mean final accuracy is reached by rank 8 in 4" in found[0]
    assert "is shown to be better than all others of its group in 4 of 4 groups" in found[1]
    cells = summarise(from_records(records))
    section = standing_section(standings(cells, compare_methods(cells)), compare_methods(cells))
    assert section.count("<td>rank 8</td>") == 4


def test_a_method_at_chance_is_named() -> None:
    records = [
        {**one, "chance": 0.15} if one["kind"] == "study" else one for one in made_up_study()
    ]
    text = answers_of(records)
    assert "Not shown to be above chance: sequential, 50 tasks (15." in text


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


def test_settings_that_differ_in_two_keys_are_not_compared() -> None:
    parts = [
        made_up_study(
            ("inflora",), (10,), key={"method.rank": rank, "method.energy": energy}, layers=1
        )
        for rank in (4, 8)
        for energy in ("sigma2", "sigma4")
    ]
    records = [parts[0][0], *(one for part in parts for one in part[1:])]
    found = compare_methods(summarise(from_records(records)))
    assert {(one.first, one.second) for one in found} == {
        ("rank 4, energy sigma2", "rank 4, energy sigma4"),
        ("rank 4, energy sigma2", "rank 8, energy sigma2"),
        ("rank 4, energy sigma4", "rank 8, energy sigma4"),
        ("rank 8, energy sigma2", "rank 8, energy sigma4"),
    }


def test_what_goes_with_a_data_set_is_not_in_the_labels() -> None:
    home = {"data.name": "icons", "data.classes": 9, "data.tasks": 3}
    away = {"data.name": "digits", "data.classes": 10, "data.tasks": 5}
    tuned = {"search.tuned_on": "data.name=icons,data.classes=9,data.tasks=3"}
    keys = shown_keys([({"method.rank": 4}, home), ({"method.rank": 4, **away, **tuned}, {})])
    assert [cell_label(one, varying_keys(keys)) for one in keys] == [
        "3 tasks, icons",
        "5 tasks, digits, tuned on icons",
    ]
    # Where classes vary within a data set they are needed.
    more = shown_keys([({**home, "data.classes": 12, "data.tasks": 4}, {}), (home, {}), (away, {})])
    assert [cell_label(one, varying_keys(more)) for one in more] == [
        "4 tasks, icons, classes 12",
        "3 tasks, icons, classes 9",
        "5 tasks, digits, classes 10",
    ]


def test_more_tasks_of_other_data_are_no_trend() -> None:
    parts = [
        made_up_study(("inflora",), (tasks,), key={"data.name": name})
        for tasks, name in ((5, "icons"), (10, "digits"))
    ]
    records = [parts[0][0], *(one for part in parts for one in part[1:])]
    assert "From 5 to 10" not in answers_of(records)
    cells = summarise(from_records(records))
    assert "Final accuracy against the number of tasks" not in [
        one.title for one in gallery.pictures(cells)
    ]
