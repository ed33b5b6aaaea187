from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from study.ledger import records
from study.planning import first_settings, space
from study.planning.cells import Plan
from study.planning.openings import opening_records
from study.search.cell_search import CellSearch
from tests.study.histories import ledger_of
from tests.study.search.searching import CONDITIONAL, cell_of
from tests.study.small_study import small_plan

DEFAULT = {"method.rank": 10, "method.epsilon": 0.95, "optim.lr": 5e-4}
Trial = tuple[dict[str, Any], float | None, records.Status]


def point(rank: int, lr: float = 1e-3) -> dict[str, Any]:
    return {"method.rank": rank, "method.epsilon": 0.9, "optim.lr": lr}


def write_study(folder: Path, plan: Plan, trials: Sequence[tuple[int, Trial]]) -> Path:
    """A ledger with search trials: the cell's place, settings, accuracy, status."""
    ledger = opening_records(plan, {})
    for at, (searched, value, status) in trials:
        trial = plan.cells[at].trial("search", searched, 0)
        metrics = {"val/accuracy": value, "val/forgetting": 1 - (value or 0)}
        task = records.task(trial.id, trial.tasks, metrics, [])
        ledger += [trial.record(), task, records.end(trial.id, status)]
    return ledger_of(ledger, folder).parent


def test_defaults_are_what_holds_without_a_search() -> None:
    cell, _ = cell_of()
    assert first_settings.defaults(cell) == DEFAULT
    without, explicit = (cell.config("search", settings, 0) for settings in ({}, DEFAULT))
    assert without == explicit


def test_defaults_are_those_of_the_recipe() -> None:
    published = {
        "recipe": "sd_lora/imagenet_r",
        "data.name": "imagenet_r",
        "data.classes": 200,
        "data.root": "/data",
        "data.image_size": 224,
        "backbone.name": "vit_base_patch16_224",
    }
    plan = small_plan(grid={"method.name": ["sd_lora"], "data.tasks": [10]}, fixed=published)
    cell = plan.cells[0]
    # The recipe's rate of the magnitudes is null: that of the branches.
    same = {"method.rank": 10, "optim.lr": 8e-3, "optim.alpha_lr": 8e-3}
    assert first_settings.defaults(cell) == same


def test_defaults_have_no_key_whose_condition_does_not_hold() -> None:
    cell, _ = cell_of(search=CONDITIONAL)
    own = first_settings.defaults(cell)
    assert own is not None
    assert ("method.epsilon" in own) == (own["method.energy"] == "sigma2")
    assert space.misfit(own, cell.space, cell.conditions) is None


def test_there_are_no_defaults_outside_of_the_ranges_or_where_they_do_not_fit() -> None:
    cell, spec = cell_of(search={"inflora": {"method.rank": {"low": 2, "high": 4}}})
    assert first_settings.defaults(cell) is None
    assert first_settings.settings_to_try_first(spec, cell) == []
    cell, _ = cell_of(
        fixed={"data.tasks": 4, "method.epsilon_end": 0.9},
        search={"inflora": {"method.epsilon": {"low": 0.5, "high": 0.9}}},
    )
    with pytest.raises(ValueError, match="epsilon_end"):
        cell.config("search", {}, 0)
    assert first_settings.defaults(cell) is None


def test_defaults_come_first_unless_they_are_not_wanted() -> None:
    cell, spec = cell_of()
    assert first_settings.settings_to_try_first(spec, cell) == [DEFAULT]
    cell, spec = cell_of(search={"defaults_first": False})
    assert first_settings.settings_to_try_first(spec, cell) == []
    plan = small_plan(search="none")
    assert first_settings.settings_to_try_first(plan.spec, plan.cells[0]) == []


PAST: Sequence[tuple[int, Trial]] = [
    (0, (point(2), 0.3, "completed")),
    (0, (point(3), 0.9, "pruned")),
    (0, (point(4), 0.5, "completed")),
    (1, (point(5), 0.7, "completed")),
    (1, (point(6), 0.8, "completed")),
    (1, (point(7), None, "completed")),
    (2, (point(8), 0.2, "completed")),
    (1, (point(4), 0.1, "completed")),
]


@pytest.fixture
def past(tmp_path: Path) -> Path:
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4, 2, 8]})
    return write_study(tmp_path, plan, PAST)


def ranks(settings: Sequence[dict[str, Any]]) -> list[int]:
    return [values["method.rank"] for values in settings]


def test_a_past_study_gives_the_best_of_the_same_cell_then_of_each_other(past: Path) -> None:
    cells = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4, 5]}).cells
    best = {"val/accuracy": "max"}
    assert ranks(first_settings.from_study(str(past), cells[0], best)) == [4, 2, 6]
    assert ranks(first_settings.from_study(str(past), cells[0], best, limit=99)) == [4, 2, 6, 8, 5]
    assert ranks(first_settings.from_study(str(past / "ledger.jsonl"), cells[1], best)) == [4, 6, 8]
    # By the objective of this study, whatever the past one's was.
    least = {"val/forgetting": "min", "val/accuracy": "max"}
    assert ranks(first_settings.from_study(str(past), cells[1], least, limit=2)) == [4, 6]
    most = {"val/forgetting": "max"}
    assert ranks(first_settings.from_study(str(past), cells[0], most, limit=2)) == [2, 4]


def test_they_follow_the_defaults(past: Path) -> None:
    search = {"warm_start": str(past)}
    plan = small_plan(grid={"method.name": ["inflora"], "data.tasks": [4]}, search=search, trials=5)
    first = first_settings.settings_to_try_first(plan.spec, plan.cells[0])
    assert first == [DEFAULT, point(4), point(2), point(6)]
    tried = CellSearch(plan.cells[0], plan.spec, first)
    proposals = [tried.ask() for _ in range(4)]
    assert [proposal.trial.searched for proposal in proposals if proposal] == first


def test_what_was_not_searched_then_counts_too(past: Path) -> None:
    keys = {"method.energy": {"choices": ["sigma2", "sigma4"]}, "method.rank": None}
    cell, _ = cell_of(search={"inflora": keys})
    first = first_settings.from_study(str(past), cell, {"val/accuracy": "max"}, limit=1)
    own = first_settings.defaults(cell)
    assert own is not None
    assert first == [{"method.energy": own["method.energy"], "method.rank": 4}]


def test_settings_outside_of_the_new_ranges_are_passed_over_with_a_reason(past: Path) -> None:
    narrow = {"inflora": {"method.rank": {"low": 2, "high": 5}}}
    cell, spec = cell_of(search={"space": narrow, "warm_start": str(past)})
    search = CellSearch(cell, spec, first_settings.settings_to_try_first(spec, cell))
    asked = [proposal.sampler["asked"] for proposal in (search.ask(), search.ask()) if proposal]
    assert asked == [False, True]
    assert search.passed_over == [
        "{'method.rank': 6}: method.rank must be 2 to 5, but is 6",
        "{'method.rank': 8}: method.rank must be 2 to 5, but is 8",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent", None, r"but .*absent cannot be read: No such file or directory\."),
        ("", None, r"ledger.jsonl cannot be read: No such file or directory\."),
        ("notes.txt", "hello\n", r"notes.txt is none: every line of a ledger must be a record"),
        ("empty.jsonl", "", r"empty.jsonl is none: a ledger must hold a study record"),
        ("odd.jsonl", '{"kind": "study"}\n', r"odd.jsonl is none: a record of kind 'study'"),
    ],
)
def test_a_past_study_that_cannot_be_read_is_refused_when_planning(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    rule = "^small.yaml: search.warm_start must be the folder of a study, or its ledger.jsonl, "
    with pytest.raises(ValueError, match=rule + ".*" + message):
        small_plan(search={"warm_start": str(tmp_path / name)})


def test_a_past_study_of_other_methods_is_refused_when_planning(past: Path) -> None:
    message = (
        r"search.warm_start must be a study with completed search trials of \['sd_lora'\], "
        r"but .* has some of \['inflora'\] only\."
    )
    search = {"warm_start": str(past)}
    with pytest.raises(ValueError, match=message):
        small_plan(grid={"method.name": ["sd_lora"], "data.tasks": [4]}, search=search)
    small_plan(search=search)
