"""The deeper sections of the page: there where a study has data for them, and nowhere else."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from study.analysis import setting_sections, task_sections
from study.analysis.correlation import Correlation
from study.analysis.deeper import MOST_CELLS, Deeper, deeper
from study.analysis.findings import findings
from study.analysis.page import page
from study.analysis.published_numbers import published_data, published_section
from study.analysis.records import from_records
from study.analysis.report import write_study
from study.analysis.summary import summarise
from study.analysis.wording import percent
from study.ledger import Record
from tests.study.analysis import engine_ledgers
from tests.study.analysis.ledgers import accuracy, made_up_study


def looked_at(records: list[Record]) -> Deeper:
    study = from_records(records)
    return deeper(study, summarise(study))


def joined(*parts: list[Record]) -> list[Record]:
    """One study of the cells of several."""
    return [parts[0][0], *(one for part in parts for one in part[1:-1]), parts[0][-1]]


def of_ranks(tasks: tuple[int, ...] = (3, 6)) -> list[Record]:
    """Ranks 2 to 16; each doubling adds two points."""
    parts = []
    for rank in (2, 4, 8, 16):
        part = made_up_study(("inflora",), tasks, key={"method.rank": rank}, layers=1)
        for at, one in enumerate(part):
            if one["kind"] == "task" and "test/accuracy" in one["metrics"]:
                more = 0.02 + 0.0001 * math.sin(at)
                one["metrics"]["test/accuracy"] += more * math.log2(rank)
            if one["kind"] == "cell":
                one["search"] = {"optim.lr": "0.0001 to 0.01, log"}
        parts.append(part)
    return joined(*parts)


def test_curves_over_several_numbers_of_tasks_are_shown_and_continued() -> None:
    html = task_sections.scaling_section(
        looked_at(made_up_study(("sequential",), tasks=(5, 10, 20, 40), ripple=0.0))
    )
    assert "Final accuracy over tasks in the sequence" in html
    # Falls by 0.6 (0.5 + T / 100): a straight line, which ends at 75 − 30 − 0.6 · 40 at 40 tasks.
    assert "<td>linear\na + b·x</td>" in html
    assert "b = −0.006 (−0.006 to −0.006)" in html
    assert "at twice the tasks, extrapolated" in html
    assert "80 tasks: 0.0 %" in html
    assert "<td>3 seeds × 4 points</td>" in html


def test_with_two_numbers_of_tasks_the_curve_is_over_tasks_seen_and_that_is_said() -> None:
    html = task_sections.scaling_section(looked_at(made_up_study(tasks=(5, 20), layers=1)))
    assert "Accuracy over tasks seen" in html
    assert "inflora, 20 tasks" in html and "inflora, 5 tasks" not in html
    assert "Of 6 cells 3 are shown" in html
    assert "not enough evidence for inflora, sd_lora and sequential: 2 points" in html


def test_what_was_foretold_stands_beside_what_was_seen() -> None:
    html = task_sections.space_section(looked_at(made_up_study(("inflora",), (40,), layers=2)))
    # 48 (1 − t / 40) is below 8 first at 34.
    assert re.search("layer_00: .*fewer than 8 free dimensions after task 3[345] ", html)
    assert "3 of 3 trials ran out within 40 tasks (after task 34)" in html
    assert html.count("<td>as predicted</td>") == 2
    assert html.count("<img") == 1


def test_too_few_tasks_for_a_forecast_are_said_and_not_drawn() -> None:
    html = task_sections.space_section(looked_at(made_up_study(("inflora",), (3,), layers=2)))
    assert "inflora, 3 tasks: not enough evidence, 2 tasks to fit" in html
    assert "<img" not in html


def test_ranks_have_a_figure_a_slope_and_a_verdict() -> None:
    html = setting_sections.rank_section(looked_at(of_ranks()))
    assert html.count("<img") == 2  # accuracy and forgetting
    assert "2.0 (95 % interval 2.0 to 2.0, n = 3)" in html
    assert "more rank, more" in html
    assert "Rank × tasks" in html


def test_what_mattered_needs_trials() -> None:
    html = setting_sections.importance_section(looked_at(made_up_study(("inflora",), (4,))))
    assert "inflora, 4 tasks: not enough evidence, " in html
    assert "<img" not in html


def test_what_mattered_is_found_and_drawn() -> None:
    script = engine_ledgers.Script()
    script.open(trials=40, objective={"val/accuracy": "max"})
    cell = script.cell({"method.name": "inflora", "data.tasks": 2}, search_tasks=2, tasks=2)
    for number in range(40):
        rank = 2 + number % 8
        name = script.trial(cell, "search", rank, 0.5 + 0.04 * rank, seed=number, tasks=2)
        trial = next(one for one in script.records if one.get("trial") == name)
        drawn = {"method.rank": rank, "optim.lr": 0.001 * (1 + number * 7 % 40)}
        trial |= {"searched": drawn, "params": {**trial["params"], **drawn}}
        script.end(name)
    script.win(cell, 9)
    script.confirm(cell, 9, 0.8)
    html = setting_sections.importance_section(looked_at(script.finish()))
    assert "inflora, 2 tasks: method.rank mattered most, clearly (40 search trials)" in html
    assert html.count("<img") == 1


def test_memory_is_set_against_what_merging_saves() -> None:
    html = setting_sections.memory_section(looked_at(with_metrics(made_up_study(("inflora",)))))
    # A branch of 2 MB a task, and a memory of 3.5 MB at the end.
    assert '<td class="number">3.5</td>' in html
    assert f'<td class="number">{2 * 49}</td>' in html
    none = setting_sections.memory_section(looked_at(made_up_study(("sequential",), (3,))))
    assert none == ""


def test_interference_is_corrected_for_the_number_of_cells() -> None:
    records = with_metrics(made_up_study(("inflora", "sd_lora"), (10,)))
    html = setting_sections.interference_section(looked_at(records))
    assert "over these 2 rows" in html
    assert html.count("<td>over the tasks of a trial</td>") == 2
    assert html.count("<img") == 1 and "Same data: " in html
    alone = ("a", Correlation(0.5, 0.1, 0.9, 3, 0.04, "tasks within a trial"))
    other = ("b", Correlation(0.1, -0.5, 0.7, 3, 0.8, "tasks within a trial"))
    found = looked_at(records)
    html = setting_sections.interference_section(replace(found, within=(alone,)))
    assert "<td>more interference, more forgetting</td>" in html
    html = setting_sections.interference_section(replace(found, within=(alone, other)))
    assert html.count("<td>not enough evidence</td>") == 2


def test_cost_shows_the_cells_of_the_same_data() -> None:
    html = setting_sections.cost_section(looked_at(made_up_study(tasks=(3, 5))))
    assert html.count("<img") == 2
    assert setting_sections.cost_section(looked_at(made_up_study(("inflora",), (3,)))) == ""


@pytest.mark.filterwarnings("error")
def test_without_times_the_cost_is_drawn_all_the_same() -> None:
    records = made_up_study(tasks=(3,))
    for one in records:
        if one["kind"] == "task":
            one["metrics"] = {k: x for k, x in one["metrics"].items() if not k.startswith("time/")}
    assert setting_sections.cost_section(looked_at(records)).count("<img") == 1


def with_metrics(records: list[Record]) -> list[Record]:
    """The same with memories, branches, and an interference that the loss follows."""
    for one in records:
        if one["kind"] == "task":
            part = one["task"] / 50
            one["metrics"] |= {
                "memory/subspace_bytes": 3.5e6 * part,
                "memory/branch_bytes": 2e6,
                "subspace/interference": 0.1 + math.sin(one["task"]),
            }
    return records


def test_a_study_without_confirmations_has_none_of_the_sections() -> None:
    study = from_records(made_up_study(seeds=(), tasks=(3,)))
    html = page(findings(study), [])
    for title in (
        "Scaling with tasks",
        "When the space runs out",
        "Rank",
        "Memory",
        "Interference",
    ):
        assert f"<h2>{title}" not in html


def test_the_cells_that_are_looked_at_one_by_one_are_bounded() -> None:
    parts = [
        made_up_study(("inflora",), (2,), (0,), layers=1, key={"data.name": f"{place}"})
        for place in range(MOST_CELLS + 2)
    ]
    found = looked_at(joined(*parts))
    assert (found.cells, found.looked_at) == (MOST_CELLS + 2, MOST_CELLS)
    assert len(found.space) == len(found.curves) == MOST_CELLS


def test_the_numbers_are_in_the_json(tmp_path: Path) -> None:
    study = from_records(made_up_study(("inflora",), (3, 5, 8), layers=1))
    write_study(study, tmp_path)
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["deeper"]
    assert {one["metric"] for one in data["trends"]} >= {"test/accuracy", "test/forgetting"}
    assert data["trends"][0]["trend"]["n"] == 3
    assert data["space"][0][0] == "inflora, 3 tasks"
    assert data["costs"][0]["accuracy"]["n"] == 3


@pytest.mark.parametrize("methods", [("inflora", "sd_lora", "sequential")])
def test_every_section_is_on_the_page(methods: tuple[str, ...]) -> None:
    study = from_records(with_metrics(made_up_study(methods, tasks=(10,))))
    html = page(findings(study), [])
    for title in (
        "Scaling with tasks",
        "When the space runs out",
        "Memory",
        "Interference and forgetting",
        "What accuracy costs",
    ):
        assert f"<h2>{title}</h2>" in html


def test_published_numbers_stand_beside_measured_ones() -> None:
    records = made_up_study(("inflora", "sequential"), (10,))
    row = {"label": "InfLoRA", "final": 0.7534, "final_std": 0.0022, "anytime": 0.806}
    told = {"source": "the logs", "departures": ["optim.epochs is 5, published with 20"]}
    records[1]["published"] = [{**row, **told}]
    study = from_records(records)
    cells = summarise(study)
    html = published_section(study, cells)
    measured = sum(accuracy("inflora", seed, 10, 10) for seed in range(3)) / 3
    assert f'<td class="number">{percent(measured - 0.7534)}</td>' in html
    assert "75.34 (sd 0.22)</td>" in html and "80.60</td>" in html
    assert "InfLoRA, the logs" in html
    assert "optim.epochs is 5, published with 20" in html.replace("\N{ZERO WIDTH SPACE}", "")
    assert html.count("<tr>") == 2
    assert published_data(study, cells) == [{"cell": cells[0].cell, **row, **told}]
    assert published_section(from_records(made_up_study(("inflora",), (3,))), cells) == ""
