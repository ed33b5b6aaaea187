"""Presets and published recipes: which flat keys they stand for, without importing torch."""

from collections.abc import Mapping
from typing import Any

from trainables.method_files import method_file, methods

# Of a recipe, what a study decides and not a trial.
SEEDS = "seeds"


def expand(params: Mapping[str, Any], tasks: int, data: str) -> dict[str, Any]:
    """Returns `params` with all that `preset`, `recipe` and a variant stand for filled in.

    What is given explicitly wins, then a variant's recipe and defaults, then the recipe, then
    the preset. `preset` alone brings its family's recipe for the data set, where one was
    published; a method without presets of its own (a reference point) takes any and changes
    nothing, so that it can stand beside those that have them. A given manifest decides the split
    in place of a recipe. `recipe` ("inflora/imagenet_r")
    brings any family's training to any method: keys of the method itself are taken by its own
    family only. `tasks` and `data` are the trial's, for recipes that differ by them.

    Raises:
        ValueError: if the method has no such preset, or no such recipe was published.
    """
    declared = method_file(str(params.get("method.name")))
    filled: dict[str, Any] = {}
    preset = params.get("preset")
    if preset is not None:
        known = sorted(declared.presets) or sorted(_all_presets())
        if preset not in known:
            raise ValueError(
                f"preset must be one of {known} or null for method {declared.name}, "
                f"but got {preset!r}."
            )
        filled |= declared.presets.get(preset, {})
    for_base = _recipe(params, declared.base, tasks, data)
    own = declared.base if params.get("recipe") is None else str(params["recipe"]).split("/")[0]
    filled |= {k: v for k, v in for_base.items() if own == declared.base or _common(k)}
    filled |= declared.defaults
    if declared.name != declared.base and for_base:
        name = data if params.get("recipe") is None else str(params["recipe"]).split("/")[1]
        if own == declared.base:
            filled |= _lookup(declared.recipes, name, tasks)
    filled.pop(SEEDS, None)
    if params.get("data.manifest") is not None:
        filled.pop("data.split", None)
    return {**filled, **params}


def published_seeds(params: Mapping[str, Any], tasks: int, data: str) -> tuple[int, ...]:
    """The seeds of the published recipe that `params` select.

    Raises:
        ValueError: if they select none.
    """
    declared = method_file(str(params.get("method.name")))
    found = _recipe(params, declared.base, tasks, data)
    if SEEDS not in found:
        raise ValueError(
            f"seeds must be a list of numbers unless a recipe is selected (by recipe, or by "
            f"preset on a data set with published results), but method {declared.name} on "
            f"{data} has none; recipes are {recipe_names()}."
        )
    return tuple(found[SEEDS])


def recipe_names() -> list[str]:
    """Every value that `recipe` may have: "family/data set"."""
    return sorted(
        {
            f"{name}/{data}"
            for name in methods()
            if method_file(name).base == name
            for data, _ in method_file(name).recipes
        }
    )


def _all_presets() -> set[str]:
    return {preset for name in methods() for preset in method_file(name).presets}


def _recipe(params: Mapping[str, Any], base: str, tasks: int, data: str) -> dict[str, Any]:
    """The keys of the base method's recipe in force, empty where there is none."""
    asked = params.get("recipe")
    if asked is None:
        if params.get("preset") is None:
            return {}
        return _lookup(method_file(base).recipes, data, tasks)
    if asked not in recipe_names():
        raise ValueError(f"recipe must be one of {recipe_names()} or null, but got {asked!r}.")
    family, _, name = str(asked).partition("/")
    return _lookup(method_file(family).recipes, name, tasks)


def _lookup(recipes: Mapping[Any, Mapping[str, Any]], data: str, tasks: int) -> dict[str, Any]:
    """What holds for any number of tasks, then what holds for this one."""
    return {**recipes.get((data, None), {}), **recipes.get((data, tasks), {})}


def _common(key: str) -> bool:
    return not key.startswith("method.")
