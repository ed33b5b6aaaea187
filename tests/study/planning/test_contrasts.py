"""What a study file's contrasts compare, cell by cell, and what of them is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.ledger import CellRecord, StudyRecords
from study.ledger.study_records import StudyRecord
from study.planning.cells import Plan
from study.planning.contrasts import METRIC, of_study
from study.planning.plan import load_plan
from tests.study.small_study import small_plan

METHODS = ["inflora", "nearest_mean", "sd_lora", "linear_heads"]
GRID = {"method.name": METHODS, "data.tasks": [2, 4]}
ROUNDS = {"first": 3, "at_most": 5, "until": "decided"}


def planned(contrasts: Any = None, **changes: Any) -> Plan:
    return small_plan(**{"grid": GRID, "search": "none", "contrasts": contrasts, **changes})


def compared(plan: Plan) -> list[str]:
    return [contrast.name for contrast in plan.contrasts]


def test_by_default_the_first_method_is_compared_with_each_reference_point() -> None:
    plan = planned()
    assert compared(plan) == [
        f"inflora vs {reference}, {tasks} tasks"
        for tasks in (2, 4)
        for reference in ("nearest_mean", "linear_heads")
    ]
    first = plan.contrasts[0]
    assert (first.metric, first.non_inferiority) == (METRIC, False)
    assert (first.first, first.second) == (
        "method.name=inflora,data.tasks=2",
        "method.name=nearest_mean,data.tasks=2",
    )
    # A reference point that comes first is none under study.
    turned = planned(grid={"method.name": ["nearest_mean", "sd_lora"], "data.tasks": [2]})
    assert compared(turned) == ["sd_lora vs nearest_mean, 2 tasks"]
    alone = {"method.name": ["inflora", "sd_lora"]}
    assert not compared(planned(grid=alone, fixed={"data.tasks": 2}))
    assert not compared(planned("none")) and not compared(planned([]))


def test_the_short_form_names_two_values_of_one_key() -> None:
    assert compared(planned(["sd_lora vs inflora", "4 vs. 2"])) == [
        "sd_lora vs inflora, 2 tasks",
        "sd_lora vs inflora, 4 tasks",
        *(f"4 tasks vs 2 tasks, {method}" for method in METHODS),
    ]
    ranks = {"method.rank": [2, 4], "method.dual": [True, False]}
    fixed = {"method.name": "inflora", "data.tasks": 2}
    plan = planned(["2 vs 4", "true vs false"], grid=ranks, fixed=fixed)
    assert compared(plan) == [
        "rank 2 vs rank 4, dual True",
        "rank 2 vs rank 4, dual False",
        "dual True vs dual False, rank 2",
        "dual True vs dual False, rank 4",
    ]


def test_the_full_form_takes_lists_another_metric_and_some_cells_alone() -> None:
    asked = {
        "key": "method.name",
        "first": ["inflora", "sd_lora"],
        "second": ["nearest_mean"],
        "metric": "test/forgetting",
        "where": {"data.tasks": 4},
    }
    plan = planned([asked, {"first": "inflora", "second": "sd_lora", "non_inferiority": True}])
    assert compared(plan) == [
        "inflora vs nearest_mean, 4 tasks, test/forgetting",
        "sd_lora vs nearest_mean, 4 tasks, test/forgetting",
        "inflora vs sd_lora, 2 tasks",
        "inflora vs sd_lora, 4 tasks",
    ]
    assert [contrast.non_inferiority for contrast in plan.contrasts] == [False, False, True, True]


def test_a_value_may_be_a_list_itself() -> None:
    grid = {"method.name": ["inflora"], "backbone.blocks": [[0], [0, 1]]}
    plan = planned([{"first": [0, 1], "second": [0]}], grid=grid, fixed={"data.tasks": 2})
    assert compared(plan) == ["blocks [0, 1] vs blocks [0], inflora"]


def test_cells_of_a_protocol_are_compared_with_their_like() -> None:
    search = {"protocol": "transfer", "confirm_on": [{"data.tasks": 4}], "space": "none"}
    grid = {"method.name": ["inflora", "nearest_mean"], "data.tasks": [2]}
    plan = planned(grid=grid, search=search, seeds=[0, 1, 2])
    assert compared(plan) == [
        "inflora vs nearest_mean, 2 tasks",
        "inflora vs nearest_mean, 4 tasks, tuned on data.tasks=2",
    ]
    assert (plan.order, plan.design.at_most) == ((1, 2), 2)
    both = {"protocol": "first_k_tasks", "first_tasks": 2, "compare": True, "space": "none"}
    grid = {"method.name": ["inflora"], "data.tasks": [4]}
    plan = planned(["first_k_tasks vs whole_stream"], grid=grid, search=both)
    assert compared(plan) == ["protocol first_k_tasks vs protocol whole_stream, inflora, 4 tasks"]


def test_names_that_would_be_the_same_are_those_of_the_cells() -> None:
    grid = {"method.name": ["inflora"], "optim.lr": [0.1, 0.10001], "data.tasks": [2, 4]}
    names = compared(planned(["2 vs 4"], grid=grid))
    assert len(set(names)) == 2 and "optim.lr=0.10001" in names[1]


def test_seeds_come_in_rounds_where_something_is_to_be_decided() -> None:
    plan = planned(["inflora vs sd_lora"], seeds=ROUNDS, margin=0.5)
    assert [cell.seeds for cell in plan.cells] == [(0, 1, 2)] * 8
    assert [len(cell.further) for cell in plan.cells] == [2, 2, 0, 0, 2, 2, 0, 0]
    assert (plan.cells[0].search_seed, plan.order) == (0, (0, 1, 2, 3, 4))
    assert (plan.confirmation_trials, plan.most_confirmation_trials) == (24, 32)
    design = plan.design
    assert (design.first, design.at_most, design.contrasts) == (3, 5, 2)
    assert (plan.spec.margin, plan.spec.to_plain()["seeds"]) == (0.5, ROUNDS)
    assert plan.spec.from_plain(plan.spec.to_plain(), plan.spec.source) == plan.spec
    # A transfer leaves the search's seed out, of rounds as of a list.
    transfer = planned(seeds=ROUNDS, search={"protocol": "transfer", "space": "none"})
    assert (transfer.cells[0].search_seed, transfer.order) == (0, (1, 2, 3, 4, 5))


@pytest.mark.parametrize("seeds", [[5], [0, 1, 2, 9]])
def test_a_list_of_seeds_is_one_look(seeds: list[int]) -> None:
    plan = planned(seeds=seeds)
    assert (plan.design.first, plan.design.at_most, plan.design.contrasts) == (*[len(seeds)] * 2, 4)
    assert plan.order == tuple(seeds) and not any(cell.further for cell in plan.cells)


WRONG = [
    (["inflora vs sd_lorra"], "first and second must be values of one key of .*Did you mean 'sd_l"),
    (["inflora vs 2"], "must be values of one key of the grid"),
    (["inflora vs inflora"], "must be different values of method.name, but both have 'inflora'"),
    ([{"first": "inflora", "second": ["2", "sd_lora"]}], "but got 'inflora' and .'2', 'sd_lora'"),
    ([{"first": "inflora", "second": []}], "must be values of one key of the grid"),
    ([{"key": "method.nam", "first": 1, "second": 2}], "key must be one of .* Did you mean 'metho"),
    ([{"key": "data.tasks", "first": 2, "second": 8}], r"second must be among .*\[2, 4\], but got"),
    (
        [{"first": "inflora", "second": ["sd_lora", "sd_lora"]}],
        "second must list each value once, but got",
    ),
    (
        [{"first": "inflora", "second": "sd_lora", "where": {"data.task": 2}}],
        "where must name keys of the grid other than method.name, .* Did you mean 'data.tasks'",
    ),
    (
        [{"first": "inflora", "second": "sd_lora", "where": {"data.tasks": [2, 3]}}],
        r"where data.tasks must be among the values of data.tasks, \[2, 4\], but got 3",
    ),
    (["inflora vs sd_lora", "sd_lora vs inflora"], "entry 2: must compare other cells than entry"),
]


@pytest.mark.parametrize(("contrasts", "message"), WRONG)
def test_what_cannot_be_compared_is_refused(contrasts: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        planned(contrasts)
    assert str(error.value).startswith("small.yaml: contrasts, entry ")


ALONE = {"method.name": ["inflora", "sd_lora"], "data.tasks": [2]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": {"first": 2, "until": "decided"}}, "seeds.first must be a whole number from 3"),
        ({"seeds": {"first": 5, "at_most": 4, "until": "decided"}}, r"at least seeds.first \(5\)"),
        ({"seeds": {"at_most": 101, "until": "decided"}}, "seeds.at_most must be .* but got 101"),
        ({"seeds": {"first": 3, "until": "sure"}}, r"seeds.until must be one of \['decided'\]"),
        ({"seeds": {"first": 3}}, "the key 'until' of seeds must be present"),
        (
            {"seeds": {"frist": 3, "until": "decided"}},
            "unknown seeds key 'frist'. Did you mean 'first'",
        ),
        ({"seeds": "all"}, "seeds must be a list, but got 'all'"),
        ({"seeds": ROUNDS, "contrasts": "none"}, "contrasts must not be none with seeds until"),
        ({"seeds": ROUNDS, "grid": ALONE}, "seeds until decided must have contrasts to decide"),
        ({"margin": -1}, "margin must be a number above 0, but got -1"),
        ({"contrasts": "inflora vs sd_lora"}, "contrasts must be a list, but got 'inflora vs"),
        (
            {
                "grid": {**GRID, "data.tasks": [1, 2]},
                "contrasts": [{"first": 1, "second": 2, "metric": "test/forgetting"}],
            },
            "metric test/forgetting must have cells of at least 2 tasks, but .*tasks=1 has 1",
        ),
        (
            {"contrasts": [{"first": 2, "second": 4, "metric": "test/stability_gap"}]},
            "must have cells with evaluation.during that measure it, but in .* it is None",
        ),
        (
            {
                "fixed": {"diagnostics": False},
                "contrasts": [{"first": 2, "second": 4, "metric": "test/lost/heads"}],
            },
            "must have cells with diagnostics that measure it, but in .* it is False",
        ),
        (
            {
                "grid": {"method.name": ["inflora"], "method.rank": [2, 3], "data.tasks": [2, 3]},
                "contrasts": ["2 vs 3"],
            },
            r"key must be given where several have the values, \['method.rank', 'data.tasks'\]",
        ),
        (
            {
                "grid": {**ALONE, "optim.lr": [rate / 100 for rate in range(1, 103)]},
                "contrasts": ["inflora vs sd_lora"],
                "seeds": ROUNDS,
            },
            "contrasts must compare at most 100 pairs of cells where seeds come until .* 102",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(**changes)


def that_ran(plan: Plan) -> StudyRecords:
    """The study of a plan, as a report knows it."""
    cells = tuple(
        CellRecord(cell.id, cell.key, cell.fixed, {}, "?", cell.tasks) for cell in plan.cells
    )
    about = StudyRecord("s", "?", plan.spec.to_plain(), {}, None, "node", None)
    return StudyRecords(about, cells, (), {}, {}, "complete", None, margin=0.5)


def test_a_file_declares_contrasts_over_the_cells_of_a_study_that_has_run(tmp_path: Path) -> None:
    study = that_ran(planned())
    path = tmp_path / "later.yaml"
    path.write_text("contrasts: [sd_lora vs nearest_mean]", encoding="utf-8")
    found, margin = of_study(study, path)
    names = [f"sd_lora vs nearest_mean, {tasks} tasks" for tasks in (2, 4)]
    assert ([contrast.name for contrast in found], margin) == (names, 0.5)
    path.write_text("contrasts: none\nmargin: 2", encoding="utf-8")
    assert of_study(study, path) == ((), 2)
    assert of_study(study) == (planned().contrasts, 0.5)
    for text, message in (
        ("contrasts: [sd_lora vs joint]", "contrasts, entry 1: first and second must be values"),
        ("contrasts: [{first: 2}]", "the key 'second' of contrasts, entry 1 must be present"),
        ("margin: 2", "the key 'contrasts' must be present"),
        ("contrasts: none\nmargin: 0", "margin must be a number above 0, but got 0"),
        ("contrasts: none\nseeds: [1]", "unknown key 'seeds'"),
        ("[1]", "must be a mapping of keys to values"),
        ("contrasts: [", "the text must be YAML"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message) as error:
            of_study(study, path)
        assert str(error.value).startswith(f"{path}: ")


def test_a_file_has_as_many_contrasts_as_there_are_limits_for(tmp_path: Path) -> None:
    rates = [rate / 100 for rate in range(1, 103)]
    grid = {"method.name": METHODS[:2], "data.tasks": [2], "optim.lr": rates}
    path = tmp_path / "later.yaml"
    path.write_text("contrasts: [inflora vs nearest_mean]", encoding="utf-8")
    listed = that_ran(planned(grid=grid))
    assert len(of_study(listed, path)[0]) == 102
    spec = {**listed.study.spec, "seeds": ROUNDS}
    rounds = replace(listed, study=replace(listed.study, spec=spec))
    with pytest.raises(ValueError, match="at most 100 pairs of cells where seeds come until"):
        of_study(rounds, path)


def test_one_configuration_is_compared_with_nothing(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: one\nquestion: Does it run once?\n"
        "grid: {method.name: [inflora, nearest_mean]}\nfixed: {data.name: icons, data.tasks: 2}\n"
        "contrasts: [inflora vs nearest_mean]\nseeds: {first: 3, at_most: 5, until: decided}\n",
        encoding="utf-8",
    )
    narrow = ["method.name=inflora", "search=none"]
    plan = load_plan(path, narrow, once=True)
    assert (plan.contrasts, plan.spec.seeds, plan.cells[0].search_seed) == ((), (0,), 0)
    with pytest.raises(ValueError, match="seeds until decided must have contrasts to decide"):
        load_plan(path, narrow)
