"""What the files in trainables/methods declare, read from their source without importing torch.

A method file defines one ``…Config`` dataclass and may name, as plain literals,

- ``PRESETS``: preset → flat keys, the documented differences between paper and released code;
- ``RECIPES``: (data set, number of tasks or None for any) → flat keys of the published training;
- ``REFERENCE``: what it shows, where it is a reference point and not a method under study.

A variant's file defines no class: ``VARIANT_OF`` names the method, ``DEFAULTS`` the flat keys
that differ from the method's own, and its ``RECIPES`` stand before the method's.
"""

import ast
import dataclasses
import difflib
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

METHODS_FOLDER = Path(__file__).parent / "methods"
Recipe: TypeAlias = tuple[str, int | None]


@dataclasses.dataclass(frozen=True)
class MethodFile:
    """The declarations of one file; `base` is the method itself or the one it is a variant of."""

    name: str
    base: str
    defaults: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]
    recipes: Mapping[Recipe, Mapping[str, Any]]
    reference: str | None


def methods() -> tuple[str, ...]:
    """Names of all methods and variants, sorted."""
    return tuple(sorted(path.stem for path in METHODS_FOLDER.glob("[a-z]*.py")))


@cache
def method_file(name: str) -> MethodFile:
    """Reads what the file of a method declares.

    Raises:
        ValueError: if there is no such method, or a declaration is not a literal.
    """
    tree = _parse(name)
    base = _literal(name, tree, "VARIANT_OF", name)
    return MethodFile(
        name=name,
        base=base,
        defaults=_literal(name, tree, "DEFAULTS", {}),
        presets=_literal(base, _parse(base), "PRESETS", {}),
        recipes=_literal(name, tree, "RECIPES", {}),
        reference=_literal(name, tree, "REFERENCE", None),
    )


@cache
def method_config(name: str) -> type:
    """The config dataclass of a method, compiled from its source without importing torch.

    The class ``…Config`` in ``methods/<name>.py`` may use builtins, dataclasses and typing.
    A variant has its method's class with its own defaults.

    Raises:
        ValueError: if there is no such method.
    """
    declared = method_file(name)
    found = [node for node in _parse(declared.base).body if isinstance(node, ast.ClassDef)]
    classes = [node for node in found if node.name.endswith("Config")]
    if len(classes) != 1:
        raise ValueError(
            f"a method file must define exactly one class named '…Config', "
            f"but methods/{declared.base}.py defines {len(classes)}."
        )
    _set_defaults(classes[0], {"name": name, **_own_fields(declared.defaults)})
    namespace: dict[str, Any] = {
        "__name__": f"trainables.methods.{declared.base}",
        "dataclass": dataclasses.dataclass,
        "field": dataclasses.field,
        "Literal": typing.Literal,
    }
    source = f"methods/{declared.base}.py"
    exec(compile(ast.Module(list(classes), []), source, "exec"), namespace)
    config_class = namespace[classes[0].name]
    if not isinstance(config_class, type):
        raise TypeError(f"{classes[0].name} must be a class.")
    return config_class


def _parse(name: str) -> ast.Module:
    if name not in methods():
        close = difflib.get_close_matches(str(name), methods(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"method.name must be one of {list(methods())}, but got {name!r}.{hint}")
    return ast.parse((METHODS_FOLDER / f"{name}.py").read_text(encoding="utf-8"))


def _literal(name: str, tree: ast.Module, wanted: str, missing: Any) -> Any:
    """The value of a module-level assignment; `missing` where the file has none."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(one, ast.Name) and one.id == wanted for one in targets):
            try:
                return ast.literal_eval(node.value)  # type: ignore[attr-defined]
            except ValueError as error:
                raise ValueError(f"{wanted} in methods/{name}.py must be a literal.") from error
    return missing


def _own_fields(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of flat keys that are the method's own fields."""
    return {
        key.removeprefix("method."): value
        for key, value in defaults.items()
        if key.startswith("method.")
    }


def _set_defaults(node: ast.ClassDef, defaults: Mapping[str, Any]) -> None:
    """Replaces the defaults of a dataclass in its syntax tree."""
    missing = set(defaults)
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            if one.target.id in defaults:
                one.value = ast.copy_location(_constant(defaults[one.target.id]), one)
                ast.fix_missing_locations(one)
            missing.discard(one.target.id)
    if missing:
        raise ValueError(f"{node.name} has no field {sorted(missing)[0]!r} to give a default to.")


def _constant(value: Any) -> ast.expr:
    return ast.parse(repr(value), mode="eval").body
