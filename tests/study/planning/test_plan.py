from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study.errors import InvalidStudyError
from study.planning import plan, space
from study.planning.plan import load_plan
from tests.study.small_study import small_plan
from trainables.config import TrialConfig


def test_cells_are_the_product_of_the_axes() -> None:
    plan = small_plan()
    assert [cell.id for cell in plan.cells] == [
        "method.name=inflora,data.tasks=2",
        "method.name=inflora,data.tasks=4",
        "method.name=sd_lora,data.tasks=2",
        "method.name=sd_lora,data.tasks=4",
    ]
    assert [cell.tasks for cell in plan.cells] == [2, 4, 2, 4]
    assert (plan.search_trials, plan.confirmation_trials, plan.chance) == (12, 8, 1 / 8)
    fixed = {"method.name": "sequential", "data.tasks": 2}
    assert small_plan(grid={"data.classes": [4, 8]}, fixed=fixed).chance is None


def test_search_sees_validation_and_confirmation_sees_test_images() -> None:
    cell = small_plan().cells[0]
    searched = {"method.rank": 3, "method.epsilon": 0.9, "optim.lr": 1e-3}
    search = cell.trial("search", searched, 0)
    confirm = cell.trial("confirm", searched, 1)
    assert (search.params["data.evaluation"], search.params["seed"]) == ("validation", 0)
    assert (confirm.params["data.evaluation"], confirm.params["seed"]) == ("test", 1)
    assert confirm.params["method.rank"] == 3
    assert TrialConfig.from_params(confirm.params).to_params() == confirm.params


def test_trial_ids_are_stable_and_tell_cells_and_settings_apart() -> None:
    first, second = small_plan().cells[:2]
    searched = {"method.rank": 3, "method.epsilon": 0.9, "optim.lr": 1e-3}
    trial = first.trial("search", searched, 0)
    assert len(trial.id) == 16 and int(trial.id, 16) >= 0
    assert trial.id == small_plan().cells[0].trial("search", dict(reversed(searched.items())), 0).id
    others = [
        first.trial("confirm", searched, 0),
        first.trial("search", searched, 1),
        first.trial("search", {**searched, "method.rank": 4}, 0),
        second.trial("search", searched, 0),
    ]
    assert len({trial.id, *(other.id for other in others)}) == 5


def test_a_trial_keeps_its_id_where_the_driver_has_no_files() -> None:
    cell = small_plan().cells[0]
    trial = cell.trial("search", {}, 0)
    pinned = replace(cell, split_sha256="0" * 64).trial("search", {}, 0)
    assert (trial.params["data.split_sha256"], trial.id) == (None, pinned.id)
    assert pinned.params == {**trial.params, "data.split_sha256": "0" * 64}


@pytest.mark.parametrize(
    ("method", "trial"),
    [("inflora", "f4a816ebc214fd1d"), ("sd_lora", "514b05c25aa5114c")],
)
def test_a_trial_keeps_the_id_of_releases_without_the_keys_that_came_later(
    method: str, trial: str
) -> None:
    axes = {"method.name": [method], "data.tasks": [2]}
    (cell,) = small_plan(grid=axes).cells
    # Those are of the release 7788856.
    assert cell.trial("confirm", {}, 0).id == trial
    for change in ({"method.head_init": "uniform_fan"}, {"evaluation.during": 2}):
        (other,) = small_plan(grid=axes, fixed=change).cells
        assert other.trial("confirm", {}, 0).id != trial


def test_what_the_cell_sets_is_not_searched() -> None:
    plan = small_plan(
        grid={"method.name": ["inflora"], "method.rank": [2, 4]},
        fixed={"data.tasks": 2, "optim.lr": 1e-3},
    )
    assert [set(cell.space) for cell in plan.cells] == [{"method.epsilon"}] * 2


def test_ranges_of_the_study_file() -> None:
    ranges = space.resolve(
        {
            "inflora": {
                "method.rank": {"low": 2, "high": 8, "step": 2},
                "method.epsilon": None,
                "optim.lr": {"low": 1e-4, "high": 1, "log": True},
                "method.energy": {"choices": ["sigma2", "sigma4"]},
            }
        },
        "inflora",
        (),
    )
    assert ranges == {
        "method.rank": IntDistribution(2, 8, step=2),
        "method.epsilon": FloatDistribution(0.8, 0.99),
        "optim.lr": FloatDistribution(1e-4, 1.0, log=True),
        "method.energy": CategoricalDistribution(("sigma2", "sigma4")),
    }
    assert {key: space.text(values) for key, values in ranges.items()} == {
        "method.rank": "2 to 8 in steps of 2",
        "method.epsilon": "0.8 to 0.99",
        "optim.lr": "0.0001 to 1 (log)",
        "method.energy": "one of sigma2, sigma4",
    }


def test_a_list_of_keys_takes_the_methods_own_ranges() -> None:
    search = {"inflora": ["method.rank"], "sd_lora": "all"}
    spaces = [set(cell.space) for cell in small_plan(search=search).cells]
    everything = {"method.rank", "optim.lr", "optim.alpha_lr"}
    assert spaces == [{"method.rank"}] * 2 + [everything] * 2


def test_settings_hold_in_the_cells_of_their_method_alone_and_are_not_searched() -> None:
    plan = small_plan(settings={"inflora": {"method.rank": 4}}, search="all")
    ranks = [cell.config("confirm", {}, 0).to_params()["method.rank"] for cell in plan.cells]
    default = TrialConfig.from_params({"method.name": "sd_lora"}).to_params()["method.rank"]
    assert ranks == [4, 4, default, default] and default != 4
    assert ["method.rank" in cell.space for cell in plan.cells] == [False, False, True, True]


FORGETTING = {"fixed": {"method.name": "inflora"}, "objective": "val/forgetting"}
RANKED = {"data.tasks": 2, "method.rank": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"data.tasks": [2]}}, "method.name must be in grid or fixed"),
        ({"grid": {"method.name": ["lora"]}}, "method.name must be one of .* but got 'lora'"),
        ({"fixed": {"method.rank": 0}}, r"method.rank must be in \[1, 16\], but got 0"),
        ({"fixed": {"method.epsilon": 0.9}}, "unknown key 'method.epsilon' for method sd_lora"),
        (
            {"grid": {"method.name": ["inflora", "sequential"]}, "fixed": RANKED},
            "cell method.name=sequential: unknown key 'method.rank' for method sequential",
        ),
        ({"grid": {"method.name": ["inflora"], "data.tasks": [date(2020, 1, 1)]}}, "of type int"),
        ({"grid": {"data.tasks": [4, 1]}, **FORGETTING}, "data.tasks=1: data.tasks must be at lea"),
        ({"seeds": [2**31]}, "seed must be in"),
        ({"settings": {"joint": {"optim.lr": 1}}}, "settings must name methods of .*names 'joint'"),
        (
            {"settings": {"inflora": {"data.tasks": 3}}},
            "settings inflora must map keys of method and optim to values",
        ),
        (
            {"settings": {"sd_lora": {"optim.lr": 1}}, "fixed": {"optim.lr": 1}},
            "settings sd_lora must not have optim.lr, which is in fixed",
        ),
        ({"settings": {"sd_lora": {"optim.lr": -1}}}, "cell method.name=sd_lora.*optim.lr must be"),
    ],
)
def test_a_wrong_cell_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        small_plan(**changes)
    assert str(error.value).startswith("small.yaml: ")


MISTAKES = """
name: many
question: Are all told?
grid: {method.name: [inflora, sd_lora, joint], data.tasks: [2, 4]}
fixed:
  data.name: gaussian
  data.image_size: 8
  data.classes: 8
  backbone.name: test_vit
  backbone.pretrained: false
  optim.epoch: 3
  optim.lr: -1
  optim.batch_size: many
  optim.momentum: 3
  method.rank: 99
search:
  inflora: {optim.head_lr: {low: 4, high: 2}, method.epsilom: null}
  sd_lora: {method.alpha_init: {low: -1, high: 1}, optim.lr: null}
trials: 0
"""


def test_all_mistakes_of_a_file_and_its_cells_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(MISTAKES, encoding="utf-8")
    with pytest.raises(InvalidStudyError) as error:
        load_plan(path)
    assert str(error.value).splitlines() == [
        f"{path}: 10 mistakes:",
        "  unknown key 'optim.epoch'. Did you mean 'optim.epochs'?",
        "  trials must be a whole number of at least 1, but got 0.",
        "  search inflora optim.head_lr must have low < high, but got low=4 and high=2.",
        "  search inflora method.epsilom: unknown key 'method.epsilom'. Did you mean "
        "'method.epsilon'?",
        "  search sd_lora optim.lr must not be in grid or fixed as well.",
        "  search must name every method of the study, but names ['inflora', 'sd_lora'] and not "
        "'joint': add 'joint: all'.",
        "  every cell: optim.batch_size must be of type int, but got 'many'.",
        "  cell method.name=inflora,data.tasks=2 and 3 more: optim.lr must be a finite number "
        "above 0, but got -1.0.",
        "  every cell: optim.momentum must be in [0, 1), but got 3.0.",
        "  every cell: method.rank must be in [1, 16], but got 99.",
    ]
    text = MISTAKES.replace("name: gaussian", "name: gausian")
    path.write_text(text, encoding="utf-8")
    # What data and network allow is not known then; a rate is wrong anyhow.
    with pytest.raises(InvalidStudyError, match=r"every cell: data\.name must be one of") as error:
        load_plan(path)
    assert "optim.momentum must be" in str(error.value)
    assert "image_size" not in str(error.value)


SHARE = {"low": 0.8, "high": 0.9}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["method.ranks"], "unknown key 'method.ranks'. Did you mean 'method.rank'"),
        (["optim.momentum"], "optim.momentum must have a range .* has none for it"),
        (["data.classes"], "must not be searched"),
        (["seed"], "must not be searched"),
        ([["method.rank"]], r"inflora must be 'all', a list of keys or .* \[\['method.rank'\]\]"),
        ({1: None}, "search inflora must be 'all', a list of keys or .*, but got {1: None}"),
        (3, "search inflora must be 'all', a list of keys or a mapping of keys to ranges, but got"),
        ({"method.rank": {"low": 2}}, "must be null, {low, high, log, step} or {choices}"),
        ({"method.rank": 4}, "must be null, {low, high"),
        ({"method.rank": {"low": 2.5, "high": 4}}, "must use int values, but got 2.5"),
        ({"optim.lr": {"low": 0, "high": 1, "log": True}}, "must have low above 0 with log"),
        ({"optim.lr": {"low": 0, "high": 1, "log": 1}}, "log must be true or false"),
        ({"optim.lr": {"low": 0.1, "high": 1, "step": 2}}, "step must be in"),
        (
            {"method.rank": {"low": 1, "high": 16, "step": 4}},
            "step must divide high − low, but got low=1, high=16 and step=4: high could be 13",
        ),
        ({"optim.optimizer": {"low": 0, "high": 1}}, "must be given as {choices"),
        ({"optim.optimizer": {"choices": []}}, "choices must be a list of values"),
        ({"method.dual": {"choices": [True, True]}}, "must be different, but True is there twice"),
        ({"optim.optimizer": {"choices": ["adam", "sgdd"]}}, "optim.optimizer must be one of"),
        ({"method.rank": {"low": 0, "high": 4}}, r"method.rank must be in \[1, 16\], but got 0"),
        ({"method.rank": {"low": 1, "high": 17}}, r"method.rank must be in \[1, 16\], but got 17"),
        ({"method.epsilon": SHARE, "method.epsilon_end": SHARE}, r"\[0.9, 1\], but got 0.8"),
    ],
)
def test_a_wrong_search_is_refused(keys: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_plan(grid={"method.name": ["inflora"], "data.tasks": [2]}, search={"inflora": keys})


def test_of_many_ranges_every_end_and_some_corners_are_checked() -> None:
    keys = ("lr", "head_lr", "alpha_lr", "momentum", "weight_decay")
    many: dict[str, Any] = {f"optim.{key}": {"low": 0.1, "high": 0.2} for key in keys}
    many |= {"optim.batch_size": {"low": 8, "high": 9}, "method.dual": {"choices": [True, False]}}
    many |= {"method.energy": {"choices": ["sigma2", "sigma4"]}}
    grid = {"method.name": ["inflora"], "data.tasks": [2]}
    for low, high in ((1, 17), (0, 16)):
        with pytest.raises(ValueError, match=r"method\.rank must be in"):
            ranks = {"method.rank": {"low": low, "high": high}}
            small_plan(grid=grid, fixed={}, search={"inflora": {**ranks, **many}})
    border = {str(key): (0, 1) for key in range(40)}
    assert len(list(space._combinations(border, space.MOST_CHECKS, 0))) == 2 + 256


def test_many_cells_share_the_checks_and_miss_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "MOST_CHECKS", 40)
    checked = []
    look = plan.wrong_settings

    def counted(*arguments: Any) -> list[str]:
        checked.append(arguments)
        return look(*arguments)

    monkeypatch.setattr(plan, "wrong_settings", counted)
    epochs = list(range(1, 21))
    grid = {"method.name": ["inflora"], "data.tasks": [2], "optim.epochs": epochs}
    # The last one is checked in one cell of several.
    choices = [*([0.001 * (at + 1) for at in range(29)]), -1.0]
    search = {"inflora": {"optim.lr": {"choices": choices[:-1]}}}
    small_plan(grid=grid, fixed={}, search=search, seeds=list(range(500)))
    # Of each cell two settings, two of their combinations, and for the first of them two roles
    # and the outermost seeds.
    assert len(checked) <= 20 * 2 * 4
    with pytest.raises(ValueError, match=r"optim\.lr must be a finite number above 0"):
        small_plan(grid=grid, fixed={}, search={"inflora": {"optim.lr": {"choices": choices}}})


def test_search_must_name_the_methods_of_the_study() -> None:
    with pytest.raises(ValueError, match=r"must name methods of this study .* names 'sequential'"):
        small_plan(search={"inflora": "all", "sd_lora": "all", "sequential": "all"})
    with pytest.raises(ValueError, match="search must be 'all', 'none' or map each method to keys"):
        small_plan(search={"inflora": "all", 1: "all"})
