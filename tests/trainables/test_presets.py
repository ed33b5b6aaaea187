"""Presets, recipes and variants: what each stands for, and who wins where two speak."""

from typing import Any

import pytest

from trainables import catalog, presets
from trainables.config import TrialConfig, published_seeds

FAMILIES = ("inflora", "sd_lora")


def params(**changes: Any) -> dict[str, Any]:
    found = {"method.name": "inflora", **changes}
    return TrialConfig.from_params(found).to_params()


@pytest.mark.parametrize("method", catalog.methods())
@pytest.mark.parametrize("preset", ["paper", "released", "corrected"])
def test_every_preset_is_a_valid_trial_that_survives_its_flat_form(
    method: str, preset: str
) -> None:
    declared = catalog.method_file(method).presets
    config = TrialConfig.from_params({"method.name": method, "preset": preset})
    assert TrialConfig.from_params(config.to_params()) == config
    if not declared:
        # A reference point stands beside methods with presets, as it is without one.
        assert catalog.method_file(method).reference
        plain = TrialConfig.from_params({"method.name": method}).to_params()
        assert config.to_params() == {**plain, "preset": preset}
        return
    assert set(declared) == {"paper", "released", "corrected"}
    own = catalog.method_file(method).defaults
    for key, value in declared[preset].items():
        assert config.to_params()[key] == own.get(key, value)


@pytest.mark.parametrize("recipe", presets.recipe_names())
@pytest.mark.parametrize("method", catalog.methods())
def test_every_recipe_trains_every_method(method: str, recipe: str) -> None:
    config = TrialConfig.from_params({"method.name": method, "recipe": recipe})
    family, _, data = recipe.partition("/")
    recipes = catalog.method_file(family).recipes
    published = {**recipes[data, None], **recipes.get((data, config.data.tasks), {})}
    found = config.to_params()
    variant = catalog.method_file(method)
    for key, value in published.items():
        if key.startswith(("optim.", "data.")) and (data, None) not in variant.recipes:
            assert found[key] == value


def test_what_is_given_wins_over_variant_recipe_and_preset() -> None:
    found = params(
        **{
            "method.name": "inflora_b5",
            "preset": "released",
            "recipe": "inflora/imagenet_r",
            "method.dual": True,
            "optim.epochs": 3,
        }
    )
    assert (found["method.dual"], found["optim.epochs"]) == (True, 3)
    assert found["method.energy"] == "sigma4"
    # The variant's own recipe stands before its method's.
    assert found["method.epsilon"] == 0.99
    assert params(**{"recipe": "inflora/imagenet_r"})["method.epsilon"] == 0.98


def test_a_recipe_may_depend_on_the_number_of_tasks() -> None:
    asked = {"method.name": "inflora_b5", "recipe": "inflora/imagenet_r"}
    assert params(**asked, **{"data.tasks": 5})["method.epsilon"] == 0.98
    assert params(**asked, **{"data.tasks": 10})["method.epsilon"] == 0.99


def test_a_preset_alone_changes_no_training_where_none_was_published() -> None:
    plain, preset = params(), params(preset="released")
    assert all(plain[key] == preset[key] for key in plain if key.startswith(("optim.", "data.")))


def test_another_familys_recipe_brings_its_training_and_not_its_method() -> None:
    found = params(**{"method.name": "sd_lora", "recipe": "inflora/domainnet"})
    assert found["optim.epochs"] == 5
    assert found["method.rank"] == 10
    assert params(**{"recipe": "inflora/domainnet"})["method.rank"] == 30


def test_a_variant_has_its_methods_fields_with_its_own_defaults() -> None:
    variant, method = catalog.method_config("sd_lora_rr"), catalog.method_config("sd_lora")
    assert set(variant.__annotations__) == set(method.__annotations__)
    assert (variant().name, method().name) == ("sd_lora_rr", "sd_lora")
    assert variant().rank_steps and not method().rank_steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "published"}, r"preset must be one of \['corrected', 'paper', 'released'\]"),
        ({"recipe": "imagenet_r"}, r"recipe must be one of \['inflora/"),
        ({"recipe": "sequential/cifar100"}, "recipe must be one of"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        params(**changes)


@pytest.mark.parametrize(
    ("family", "seeds"), [("inflora", (0, 1, 2, 3, 4)), ("sd_lora", (1993, 1994, 1995))]
)
def test_published_seeds(family: str, seeds: tuple[int, ...]) -> None:
    asked = {"method.name": "sequential", "recipe": f"{family}/imagenet_r"}
    assert published_seeds(asked) == seeds
    with pytest.raises(ValueError, match="seeds must be a list of numbers unless a recipe"):
        published_seeds({"method.name": family, "preset": "paper"})
