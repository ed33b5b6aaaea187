import subprocess
import sys
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study import conditions, ranges
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


def test_chance_is_unknown_where_cells_differ() -> None:
    plan = small_plan(
        grid={"data.classes": [4, 8]}, fixed={"method.name": "sequential", "data.tasks": 2}
    )
    assert plan.chance is None


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
    assert len({trial.id, *(one.id for one in others)}) == 5


def test_a_trial_keeps_its_id_where_the_driver_has_no_files() -> None:
    cell = small_plan().cells[0]
    trial = cell.trial("search", {}, 0)
    pinned = replace(cell, split_sha256="0" * 64).trial("search", {}, 0)
    assert (trial.params["data.split_sha256"], trial.id) == (None, pinned.id)
    assert pinned.params == {**trial.params, "data.split_sha256": "0" * 64}


def test_what_the_cell_sets_is_not_searched() -> None:
    plan = small_plan(
        grid={"method.name": ["inflora"], "method.rank": [2, 4]},
        fixed={"data.tasks": 2, "optim.lr": 1e-3},
    )
    assert [set(cell.space) for cell in plan.cells] == [{"method.epsilon"}] * 2


def test_ranges_of_the_study_file() -> None:
    found = ranges.resolve(
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
    assert found == {
        "method.rank": IntDistribution(2, 8, step=2),
        "method.epsilon": FloatDistribution(0.8, 0.99),
        "optim.lr": FloatDistribution(1e-4, 1.0, log=True),
        "method.energy": CategoricalDistribution(("sigma2", "sigma4")),
    }
    assert {key: ranges.text(one) for key, one in found.items()} == {
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


FORGETTING = {"fixed": {"method.name": "inflora"}, "objective": "val/forgetting"}
RANKED = {"data.tasks": 2, "method.rank": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"data.tasks": [2]}}, "method.name must be in grid or fixed"),
        ({"grid": {"method.name": ["lora"]}}, "method.name must be one of .* but got 'lora'"),
        ({"fixed": {"data.name": "cifar"}}, "data.name must be one of .* but got 'cifar'"),
        ({"fixed": {"method.rank": 17}}, r"method.rank must be in \[1, 16\], but got 17"),
        ({"fixed": {"method.rank": 0}}, r"method.rank must be in \[1, 16\], but got 0"),
        ({"fixed": {"method.epsilon": 0.9}}, "unknown key 'method.epsilon' for method sd_lora"),
        (
            {"grid": {"method.name": ["inflora", "sequential"]}, "fixed": RANKED},
            "cell method.name=sequential: unknown key 'method.rank' for method sequential",
        ),
        ({"grid": {"method.name": ["inflora"], "data.tasks": [date(2020, 1, 1)]}}, "of type int"),
        ({"grid": {"data.tasks": [4, 1]}, **FORGETTING}, "data.tasks=1: data.tasks must be at lea"),
        ({"fixed": {"optim.epoch": 1}}, "unknown key 'optim.epoch'.*'optim.epochs'"),
        ({"fixed": {"optim.epochs": "many"}}, "optim.epochs must be of type int, but got 'many'"),
        ({"seeds": [2**31]}, "seed must be in"),
    ],
)
def test_a_wrong_cell_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        small_plan(**changes)
    assert str(error.value).startswith("small.yaml: ")


def test_more_tasks_than_classes_are_refused() -> None:
    grid = {"method.name": ["inflora"], "data.tasks": [2, 500]}
    fixed = {
        "data.name": "icons",
        "data.classes": None,
        "data.image_size": 32,
        "backbone.name": "compact_vit",
        "backbone.pretrained": True,
    }
    with pytest.raises(ValueError, match=r"data.tasks=500: data.tasks must be in \[1, 3\d\d\]"):
        small_plan(grid=grid, fixed=fixed)


SHARE = {"low": 0.8, "high": 0.9}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["method.ranks"], "unknown key 'method.ranks'; known keys are"),
        (["optim.momentum"], "optim.momentum must have a range .* has none for it"),
        (["data.classes"], "must not be searched"),
        (["seed"], "must not be searched"),
        ([["method.rank"]], r"search inflora must name keys, but got \[\['method.rank'\]\]"),
        ({1: None}, "search inflora must name keys, but got {1: None}"),
        (["optim.epochs"], "optim.epochs must not be in grid or fixed as well"),
        ({"method.rank": {"low": 2}}, "must be null, {low, high, log, step} or {choices}"),
        ({"method.rank": {"low": 2, "high": 4, "base": 2}}, "must be null, {low, high"),
        ({"method.rank": 4}, "must be null, {low, high"),
        ({"method.rank": {"low": 4, "high": 2}}, "must have low < high, but got low=4 and high=2"),
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
    for last in ({"low": 1, "high": 17}, {"low": 0, "high": 16}):
        with pytest.raises(ValueError, match=r"method\.rank must be in"):
            small_plan(grid=grid, fixed={}, search={"inflora": {"method.rank": last, **many}})
    assert len(list(conditions._combinations({str(key): (0, 1) for key in range(40)}))) == 2 + 256


def test_search_must_name_the_methods_of_the_study() -> None:
    with pytest.raises(ValueError, match="and not 'sd_lora': add 'sd_lora: all'"):
        small_plan(search={"inflora": "all"})
    with pytest.raises(ValueError, match=r"must name methods of this study .* names 'sequential'"):
        small_plan(search={"inflora": "all", "sd_lora": "all", "sequential": "all"})
    with pytest.raises(ValueError, match="search must be 'all', 'none' or map each method to keys"):
        small_plan(search={"inflora": "all", 1: "all"})


def test_checking_a_study_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys\n"
        "from tests.study.small_study import small_plan\n"
        "small_plan()\n"
        "assert not {'torch', 'ray', 'timm', 'mlflow'} & set(sys.modules), 'heavy imports'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
