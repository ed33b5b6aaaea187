"""What `--validate` says of a study."""

from typing import Any

import pytest

from study.description import describe
from tests.study.small_study import small_plan


def test_the_usual_needs_no_words() -> None:
    assert describe(small_plan())[:2] == [
        "small.yaml is valid: 4 cells, up to 12 search trials and 8 confirmation trials.",
        "  method.name=inflora,data.tasks=2: searches method.rank, method.epsilon, optim.lr",
    ]


LONG = {"grid": {"method.name": ["inflora"], "data.tasks": [4]}}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {
                "grid": {"method.name": ["inflora"], "data.tasks": [4]},
                "search": {"protocol": "first_k_tasks", "first_tasks": 2},
            },
            "  searches see the first 2 tasks only",
        ),
        (
            {"search": {"protocol": "transfer"}, "seeds": [0, 1, 2]},
            "  searches use seed 0, confirmations [1, 2]: settings are confirmed on data they "
            "were not chosen on",
        ),
        (
            {
                "grid": {"method.name": ["inflora"], "data.tasks": [4]},
                "search": {"protocol": "first_k_tasks", "first_tasks": 2, "compare": True},
            },
            "  whole_stream runs beside it, for comparison",
        ),
        ({"sampler": "random"}, "  sampler: random"),
        (
            {"objective": ["val/accuracy", "val/forgetting"], "pruner": {"kind": "none"}},
            "  every setting on a cell's front is confirmed: val/accuracy max, val/forgetting min",
        ),
        (
            {"budget": {"gpu_hours": 5, "wall_hours": 0.5}, "resources": {"gpu": 1}},
            "  a cell's search ends at 5 GPU-hours or 0.5 hours, if trials are left",
        ),
    ],
)
def test_what_is_unusual_is_said(changes: dict[str, Any], line: str) -> None:
    assert line in describe(small_plan(**changes))


def test_cells_that_take_settings_from_another_say_so() -> None:
    plan = small_plan(
        grid={"method.name": ["inflora"]},
        fixed={"data.tasks": 2},
        search={"protocol": "transfer", "confirm_on": [{"data.classes": 4}]},
    )
    assert describe(plan)[-1].endswith(": takes the settings of method.name=inflora")
