"""Presets and published recipes: which flat keys they stand for, without importing torch."""

from collections.abc import Mapping
from typing import Any

from trainables.config.data import DataConfig
from trainables.config.methods import Recipe, declaration, methods
from trainables.config.names import one_of

# Of a recipe, what a study decides and not a trial.
SEEDS = "seeds"


def expand(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `params` with all that `preset`, `recipe` and a variant stand for filled in.

    What is given explicitly wins, then a variant's recipe and defaults, then the recipe, then
    the preset. `preset` alone brings its family's recipe for the data set, where one was
    published; a method without presets of its own (a reference point) takes any and changes
    nothing, so that it can stand beside those that have them. A given manifest decides the
    split in place of a recipe. `recipe` ("inflora/imagenet_r") brings any family's training to
    any method: keys of the method itself are taken by its own family only. ValueError if the
    method has no such preset, or no such recipe was published.
    """
    declared = declaration(str(params.get("method.name")))
    filled: dict[str, Any] = {}
    preset = params.get("preset")
    if preset is not None:
        known = sorted(declared.presets or {p for m in methods() for p in declaration(m).presets})
        if preset not in known:
            raise ValueError(
                one_of("preset", preset, known, f" or null for method {declared.name}")
            )
        filled |= declared.presets.get(preset, {})
    family, data = _selected(params, declared.base)
    recipe = _lookup(declaration(family).recipes, data, params)
    own = family == declared.base
    filled |= {key: value for key, value in recipe.items() if own or not key.startswith("method.")}
    filled |= declared.defaults
    if own and recipe and declared.name != declared.base:
        filled |= _lookup(declared.recipes, data, params)
    filled.pop(SEEDS, None)
    if params.get("data.manifest") is not None:
        filled.pop("data.split", None)
    return {**filled, **params}


def published_seeds(params: Mapping[str, Any]) -> tuple[int, ...]:
    """The seeds of the published recipe that `params` select; ValueError if they select none."""
    declared = declaration(str(params.get("method.name")))
    family, data = _selected(params, declared.base)
    recipe = _lookup(declaration(family).recipes, data, params)
    if SEEDS not in recipe:
        raise ValueError(
            f"seeds must be a list of numbers unless a recipe is selected (by recipe, or by "
            f"preset on a data set with published results), but method {declared.name} on "
            f"{params.get('data.name', DataConfig.name)} has none; recipes are {recipe_names()}."
        )
    return tuple(recipe[SEEDS])


def recipe_names() -> list[str]:
    """Every value that `recipe` may have: "family/data set"."""
    return sorted(
        {
            f"{name}/{data}"
            for name in methods()
            if declaration(name).base == name
            for data, _ in declaration(name).recipes
        }
    )


def _selected(params: Mapping[str, Any], base: str) -> tuple[str, str | None]:
    """Family and data set of the recipe in force; None where neither recipe nor preset is asked."""
    asked = params.get("recipe")
    if asked is None:
        named = str(params.get("data.name", DataConfig.name))
        return base, named if params.get("preset") is not None else None
    if asked not in recipe_names():
        raise ValueError(one_of("recipe", asked, recipe_names(), " or null"))
    family, _, data = str(asked).partition("/")
    return family, data


def _lookup(
    recipes: Mapping[Recipe, Mapping[str, Any]], data: str | None, params: Mapping[str, Any]
) -> dict[str, Any]:
    """What holds for any number of tasks, then what holds for that of the trial."""
    if data is None:
        return {}
    tasks = params.get("data.tasks", DataConfig.tasks)
    return {**recipes.get((data, None), {}), **recipes.get((data, tasks), {})}
