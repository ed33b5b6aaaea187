"""What a tuning protocol makes of a grid: which cells search, on what, and which are confirmed."""

from typing import Any

import pytest

from study.planning.cells import Cell, Plan
from tests.study.small_study import small_plan

GRID = {"data.tasks": [2, 4]}
METHOD = {"method.name": "inflora"}


def planned(search: dict[str, Any], **changes: Any) -> Plan:
    return small_plan(**{"grid": GRID, "fixed": METHOD, "search": search, "trials": 2, **changes})


def by_id(plan: Plan) -> dict[str, Cell]:
    return {cell.id: cell for cell in plan.cells}


def test_the_whole_stream_is_searched_and_confirmed() -> None:
    for cell in planned({"protocol": "whole_stream"}).cells:
        assert cell.search_tasks == cell.tasks
        assert (cell.search_seed, cell.seeds, cell.tuned_in) == (0, (0, 1), None)


def test_a_search_on_the_first_tasks_ends_there() -> None:
    plan = planned({"protocol": "first_k_tasks", "first_tasks": 3}, grid={"data.tasks": [4, 5]})
    assert [cell.search_tasks for cell in plan.cells] == [3, 3]
    cell = plan.cells[0]
    search, confirm = (cell.trial(role, {}, 0) for role in ("search", "confirm"))
    assert (search.tasks, confirm.tasks) == (3, 4)
    # The stream is the same: only its end is not seen.
    assert search.params["data.tasks"] == confirm.params["data.tasks"] == 4
    # Searches of another length are other trials.
    shorter = planned({"protocol": "first_k_tasks", "first_tasks": 2}, grid={"data.tasks": [4]})
    assert shorter.cells[0].id == cell.id
    assert shorter.cells[0].trial("search", {}, 0).id != search.id
    assert shorter.cells[0].trial("confirm", {}, 0).id == confirm.id


def test_a_comparison_has_a_cell_of_each_protocol() -> None:
    plan = planned({"protocol": "first_k_tasks", "first_tasks": 1, "compare": True})
    assert {name: cell.search_tasks for name, cell in by_id(plan).items()} == {
        "data.tasks=2,search.protocol=first_k_tasks": 1,
        "data.tasks=2,search.protocol=whole_stream": 2,
        "data.tasks=4,search.protocol=first_k_tasks": 1,
        "data.tasks=4,search.protocol=whole_stream": 4,
    }
    assert len({cell.seeds for cell in plan.cells}) == 1
    assert not any(key.startswith("search.") for key in plan.cells[0].trial("search", {}, 0).params)


def test_transfer_confirms_on_class_orders_that_no_search_has_seen() -> None:
    plan = planned({"protocol": "transfer"}, seeds=[3, 5, 7])
    assert {(cell.search_seed, cell.seeds) for cell in plan.cells} == {(3, (5, 7))}
    assert plan.confirmation_trials == 4


def test_transfer_confirms_the_same_settings_on_other_data() -> None:
    to = [{"data.classes": 6}, {"data.classes": 8}]
    plan = planned(
        {"protocol": "transfer", "confirm_on": to, "space": {"inflora": ["method.rank"]}}
    )
    moved = by_id(plan)["data.tasks=2,data.classes=6,search.tuned_on=data.classes=8"]
    assert moved.tuned_in == "data.tasks=2"
    assert moved.trial("confirm", {"method.rank": 2}, 1).params["data.classes"] == 6
    assert (moved.searches, by_id(plan)["data.tasks=2"].searches) == (False, True)
    # Only searches of the grid's own cells cost trials.
    assert plan.search_trials == 2 * 2


def test_a_transfer_to_a_cells_own_data_is_that_cell() -> None:
    grid = {"data.classes": [6, 8]}
    search = {"protocol": "transfer", "confirm_on": [{"data.classes": 6}]}
    plan = planned(search, grid=grid, fixed={**METHOD, "data.tasks": 2})
    assert list(by_id(plan)) == [
        "data.classes=6",
        "data.classes=8",
        "data.classes=6,search.tuned_on=data.classes=8",
    ]


def test_a_compared_transfer_tunes_on_the_other_data_too() -> None:
    search = {"protocol": "transfer", "compare": True, "confirm_on": [{"data.classes": 6}]}
    plan = planned(search, grid={"data.tasks": [2]})
    assert {name: cell.tuned_in for name, cell in by_id(plan).items()} == {
        "data.tasks=2,search.protocol=transfer": None,
        "data.tasks=2,data.classes=6,search.protocol=transfer,search.tuned_on=data.classes=8": (
            "data.tasks=2,search.protocol=transfer"
        ),
        "data.tasks=2,data.classes=6,search.protocol=whole_stream": None,
    }
    assert {cell.seeds for cell in plan.cells} == {(1,)}


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"protocol": "transfer", "confirm_on": [{"data.classes": 6}, {"data.classes": 6}]},
            "search.confirm_on must not lead to a cell that is there already: data.tasks=2,data.cl",
        ),
        (
            {"protocol": "first_k_tasks", "first_tasks": 4},
            r"cell data.tasks=2: search.first_tasks must be below data.tasks \(2\), but got 4",
        ),
        (
            {"protocol": "transfer", "confirm_on": [{"data.classes": 65}]},
            r"cell data.tasks=2,data.classes=65.*: data.classes must be in \[1, 64\]",
        ),
        ({"protocol": "transfer", "confirm_on": [{"data.clases": 6}]}, "unknown key 'data.clases'"),
    ],
)
def test_what_cannot_be_confirmed_is_refused(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(search)


def test_an_objective_of_later_tasks_needs_two_in_the_search() -> None:
    search = {"protocol": "first_k_tasks", "first_tasks": 1}
    with pytest.raises(ValueError, match=r"search.first_tasks must be at least 2 for objective"):
        planned(search, objective="val/forgetting")
