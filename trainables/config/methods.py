"""What the methods declare, without importing torch: configs, presets, recipes, variants.

A folder `methods/foo` with `config.py` and `method.py` is a method. Its `config.py`, which imports
no torch, has one dataclass named `…Config`, ADAPTS (slices of a fused qkv that take branches), and
may name

- ``PRESETS``: preset → flat keys, the documented differences between paper and released code;
- ``RECIPES``: (data set, number of tasks or None for any) → flat keys of the published training;
- ``LAYERS``: globs of the layers that take branches unless `backbone.layers` says otherwise, those
  of them that a network has;
- ``REFERENCE``: what it shows, where it is a reference point and not a method under study.

A file `methods/foo/variants/bar.py` is the variant `foo_bar`: ``DEFAULTS`` are the flat keys that
differ from the method's own, and its ``RECIPES`` stand before the method's.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from trainables.config.names import one_of

FOLDER = Path(__file__).parents[1] / "methods"
PACKAGE = "trainables.methods"
Recipe: TypeAlias = tuple[str, int | None]


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What a method or variant declares; `base` is the method itself or that of the variant."""

    name: str
    base: str
    config: type
    adapts: tuple[str, ...]
    layers: tuple[str, ...]
    defaults: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]
    recipes: Mapping[Recipe, Mapping[str, Any]]
    reference: str | None


@cache
def methods() -> tuple[str, ...]:
    """Names of methods and variants, sorted; ValueError for a folder with one of two files."""
    return tuple(sorted(_places()))


@cache
def declaration(name: str) -> Declaration:
    """What a method or variant declares; ValueError if there is none, or its files lack it."""
    places = _places()
    if name not in places:
        raise ValueError(one_of("method.name", name, places))
    base, variant = places[name]
    method = importlib.import_module(f"{PACKAGE}.{base}.config")
    own = method if variant is None else importlib.import_module(f"{PACKAGE}.{base}.{variant}")
    if not hasattr(method, "ADAPTS"):
        raise ValueError(
            f"{method.__file__} must name ADAPTS, the slices of a fused qkv that take branches "
            f"(() for none), but it does not."
        )
    return Declaration(
        name=name,
        base=base,
        config=_with_defaults(_config_class(method), name, own),
        adapts=method.ADAPTS,
        layers=getattr(method, "LAYERS", ()),
        defaults=getattr(own, "DEFAULTS", {}),
        presets=getattr(method, "PRESETS", {}),
        recipes=getattr(own, "RECIPES", {}),
        reference=getattr(method, "REFERENCE", None),
    )


def _places() -> dict[str, tuple[str, str | None]]:
    """By name, the folder of a method, and the module in it that is the variant, if it is one."""
    places: dict[str, tuple[str, str | None]] = {}
    for folder in sorted(FOLDER.glob("[a-z]*")):
        # A folder with neither is what another commit left of its compiled files.
        files = [name for name in ("config.py", "method.py") if (folder / name).is_file()]
        if len(files) == 1:
            raise ValueError(
                f"{folder} must hold config.py and method.py, but has {files[0]} only."
            )
        if files:
            places[folder.name] = (folder.name, None)
            for path in folder.glob("variants/[a-z]*.py"):
                places[f"{folder.name}_{path.stem}"] = (folder.name, f"variants.{path.stem}")
    return places


def _config_class(module: ModuleType) -> type:
    """The dataclass of a method's config.py."""
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and value.__name__.endswith("Config")
        and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise ValueError(
            f"{module.__file__} must define exactly one dataclass named …Config, but defines "
            f"{[config.__name__ for config in classes]}."
        )
    return classes[0]


def _with_defaults(config: type, name: str, own: ModuleType) -> type:
    """`config` with `name` and the DEFAULTS of `own`; the class itself where none is another."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    defaults: dict[str, Any] = {"name": name}
    for key, value in getattr(own, "DEFAULTS", {}).items():
        group, _, field_name = key.partition(".")
        if group == "method":
            if field_name not in fields:
                raise ValueError(
                    f"DEFAULTS of {own.__file__} must name fields of {config.__name__} "
                    f"({sorted(fields)}), but got {key!r}."
                )
            defaults[field_name] = value
    values = {name: defaults.get(name, field.default) for name, field in fields.items()}
    if all(fields[name].default == value for name, value in values.items()):
        return config
    # All of them, so that its annotations are complete.
    annotated = [
        (name, field.type, dataclasses.field(default=values[name]))
        for name, field in fields.items()
    ]
    return dataclasses.make_dataclass(
        config.__name__,
        annotated,
        bases=(config,),
        frozen=True,
        namespace={"__doc__": config.__doc__},
    )
