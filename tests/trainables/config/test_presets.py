"""Presets, recipes and variants: what each stands for, and who wins where two speak."""

from typing import Any

import pytest

from trainables.config import TrialConfig, catalog, presets, published_seeds


def params(**changes: Any) -> dict[str, Any]:
    asked = {"method.name": "inflora", **changes}
    return TrialConfig.from_params(asked).to_params()


@pytest.mark.parametrize("method", catalog.methods())
@pytest.mark.parametrize("preset", ["paper", "released", "corrected"])
def test_every_preset_is_a_valid_trial_that_survives_its_flat_form(
    method: str, preset: str
) -> None:
    declared = catalog.declaration(method).presets
    config = TrialConfig.from_params({"method.name": method, "preset": preset})
    assert TrialConfig.from_params(config.to_params()) == config
    if not declared:
        # A reference point stands beside methods with presets, as it is without one.
        assert catalog.declaration(method).reference
        plain = TrialConfig.from_params({"method.name": method}).to_params()
        assert config.to_params() == {**plain, "preset": preset}
        return
    assert set(declared) == {"paper", "released", "corrected"}
    own = catalog.declaration(method).defaults
    for key, value in declared[preset].items():
        assert config.to_params()[key] == own.get(key, value)


@pytest.mark.parametrize("recipe", presets.recipe_names())
@pytest.mark.parametrize("method", catalog.methods())
def test_every_recipe_trains_every_method(method: str, recipe: str) -> None:
    config = TrialConfig.from_params({"method.name": method, "recipe": recipe})
    family, _, data = recipe.partition("/")
    recipes = catalog.declaration(family).recipes
    published = {**recipes[data, None], **recipes.get((data, config.data.tasks), {})}
    filled = config.to_params()
    variant = catalog.declaration(method)
    for key, value in published.items():
        if key.startswith(("optim.", "data.")) and (data, None) not in variant.recipes:
            assert filled[key] == value


def test_what_is_given_wins_over_variant_recipe_and_preset() -> None:
    asked = {"method.name": "inflora_b5", "preset": "released", "recipe": "inflora/imagenet_r"}
    filled = params(**asked, **{"method.dual": True, "optim.epochs": 3})
    assert (filled["method.dual"], filled["optim.epochs"]) == (True, 3)
    assert filled["method.energy"] == "sigma4"
    # The variant's own recipe stands before its method's.
    assert filled["method.epsilon"] == 0.99
    assert params(recipe="inflora/imagenet_r")["method.epsilon"] == 0.98
    # A recipe may depend on the number of tasks.
    assert params(**asked, **{"data.tasks": 5})["method.epsilon"] == 0.98
    assert params(**asked, **{"data.tasks": 10})["method.epsilon"] == 0.99


def test_a_preset_alone_changes_no_training_where_none_was_published() -> None:
    plain, preset = params(), params(preset="released")
    assert all(plain[key] == preset[key] for key in plain if key.startswith(("optim.", "data.")))


def test_another_familys_recipe_brings_its_training_and_not_its_method() -> None:
    filled = params(**{"method.name": "sd_lora", "recipe": "inflora/domainnet"})
    assert filled["optim.epochs"] == 5
    assert filled["method.rank"] == 10
    assert params(**{"recipe": "inflora/domainnet"})["method.rank"] == 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "published"}, r"preset must be one of \['corrected', 'paper', 'released'\]"),
        ({"recipe": "imagenet_r"}, r"one of 31 names or null, .* Did you mean '\w+/imagenet_r'\?"),
        ({"recipe": "sequential/cifar100"}, "recipe must be one of"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        params(**changes)


# Rates as released, by the batch over 256: optim.lr, optim.head_lr, epochs, batch, schedule.
# fmt: off
TRAININGS: dict[tuple[str, str], tuple[float, float | None, int, int, str]] = {
    ("l2p", "cifar100"): (0.03 * 16 / 256, None, 5, 16, "constant"),
    ("l2p", "imagenet_r"): (0.03 * 16 / 256, None, 10, 32, "constant"),
    ("dual_prompt", "cifar100"): (1e-3, None, 5, 24, "constant"),
    ("dual_prompt", "imagenet_r"): (1e-3, None, 10, 24, "constant"),
    ("coda_prompt", "cifar100"): (1e-3, None, 20, 128, "released_cosine_once"),
    ("coda_prompt", "imagenet_r"): (1e-3, None, 50, 128, "released_cosine_once"),
    ("coda_prompt", "domainnet"): (1e-3, None, 5, 128, "released_cosine_once"),
    ("hide_prompt", "cifar100"): (0.03 * 24 / 256, 0.003 * 24 / 256, 50, 8 * 24, "step"),
    ("hide_prompt", "imagenet_r"): (0.03 * 24 / 256, 0.003 * 24 / 256, 150, 8 * 24, "cosine"),
}
# fmt: on


@pytest.mark.parametrize(("method", "data"), TRAININGS)
def test_trainings_of_methods_with_prompts(method: str, data: str) -> None:
    filled = params(**{"method.name": method, "recipe": f"{method}/{data}"})
    lr, head_lr, epochs, batch, schedule = TRAININGS[method, data]
    assert filled["optim.lr"] == pytest.approx(lr, rel=1e-12)
    assert filled["optim.head_lr"] == (None if head_lr is None else pytest.approx(head_lr))
    keys = ("epochs", "batch_size", "schedule", "optimizer", "weight_decay", "prompt_lr")
    found = tuple(filled[f"optim.{key}"] for key in keys)
    assert found == (epochs, batch, schedule, "adam", 0, None)
    assert filled["optim.clip_norm"] == (1.0 if method == "hide_prompt" else None)
    assert filled["data.crop_scale"] == (0.08 if method == "coda_prompt" else 0.05)
    if method == "hide_prompt":
        own = ("identity_lr", "identity_align_lr", "align_lr", "identity_epochs", "align_epochs")
        expected = (0.0005 * 24 / 256, 0.005 * 24 / 256, 0.005, 20, 30)
        assert tuple(filled[f"method.{key}"] for key in own) == pytest.approx(expected)
        few = data == "cifar100"
        assert (filled["method.length"], filled["method.contrastive"]) == (
            (5, 0.1) if few else (20, 0.5)
        )


@pytest.mark.parametrize(
    ("family", "seeds"), [("inflora", (0, 1, 2, 3, 4)), ("sd_lora", (1993, 1994, 1995))]
)
def test_published_seeds(family: str, seeds: tuple[int, ...]) -> None:
    asked = {"method.name": "sequential", "recipe": f"{family}/imagenet_r"}
    assert published_seeds(asked) == seeds
    with pytest.raises(ValueError, match="seeds must be a list of numbers unless a recipe"):
        published_seeds({"method.name": family, "preset": "paper"})
