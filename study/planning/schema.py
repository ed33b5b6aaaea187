"""`--schema`: a JSON Schema of a study file, so that editors complete and check it."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Mapping
from typing import Any, TypeAlias, get_args

from pydantic import TypeAdapter

from study.planning.contrasts import CONFIRMED
from study.planning.sections import OBJECTIVES, RESERVED, Mode, flat_keys
from study.planning.space import searchable
from study.planning.spec import StudySpec
from trainables.config import (
    BackboneConfig,
    DataConfig,
    EvaluationConfig,
    OptimConfig,
    TrialConfig,
    catalog,
    known_keys,
)

Schema: TypeAlias = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
METHOD = "A method, a folder in trainables/methods, or a variant of one."
SEED = {"type": "integer", "minimum": 0}
VERSUS = {"type": "string", "pattern": r"\S\s+vs\.?\s+\S"}
WHEN: Schema = {
    "type": "object",
    "description": "searched only where these searched keys have one of these values",
}


def study_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a study file.

    It knows keys, types, names and the plainest limits; what depends on several keys at once is
    checked by `study/run.py --validate`.
    """
    schema = StudySpec.model_json_schema()
    keys = _flat_keys()
    known = {key: {"$ref": f"#/$defs/{key}"} for key in keys}
    search = schema["$defs"]["Search"]["properties"]
    methods = {"$ref": "#/$defs/methods"}
    words = {"enum": ["all", "none"]}
    data = {key: reference for key, reference in known.items() if key.startswith("data.")}
    search["space"] |= {"anyOf": [words, methods]}
    search["confirm_on"]["items"] = {**_object(data), "minProperties": 1}
    schema["$defs"]["Declared"]["properties"]["metric"] |= {"enum": list(CONFIRMED)}
    settings = {
        name: {
            key: known[key]
            for key in known_keys(name)
            if key in known and key.startswith(("method.", "optim.")) and key != "method.name"
        }
        for name in catalog.methods()
    }
    modes = _object({name: {"enum": list(get_args(Mode))} for name in OBJECTIVES})
    names = {"enum": list(OBJECTIVES)}
    forms: dict[str, Schema] = {
        "grid": {**_object({key: _list(kind) for key, kind in known.items()}), "minProperties": 1},
        "fixed": _object(known),
        "settings": _object({name: _object(own) for name, own in settings.items()}),
        # The short form maps methods: it has no key in common with the section.
        "search": {
            "if": {"type": "object", "propertyNames": {"enum": list(catalog.methods())}},
            "then": methods,
            "else": {"anyOf": [words, {"$ref": "#/$defs/Search"}]},
        },
        "objective": {"anyOf": [names, _list(names), {**modes, "minProperties": 1}]},
        "seeds": {
            "anyOf": [
                {"const": "published"},
                {**_list(SEED), "uniqueItems": True},
                {"$ref": "#/$defs/UntilDecided"},
            ]
        },
        "contrasts": {
            "anyOf": [
                {"enum": ["none", None]},
                {"type": "array", "items": {"anyOf": [VERSUS, {"$ref": "#/$defs/Declared"}]}},
            ]
        },
    }
    for key, form in forms.items():
        described = schema["properties"][key]
        schema["properties"][key] = {"description": described["description"], **form}
    ranges = {_range_name(key): _range(key) for key in keys if searchable(key)}
    schema["$defs"] |= {**keys, "methods": _methods(keys), **ranges}
    return {"$schema": DIALECT, **schema}


def attribute_docstrings(kind: type) -> dict[str, str]:
    """The docstring that stands below each field of a dataclass and of those that it extends."""
    words: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if dataclasses.is_dataclass(owner):
            words |= _own_docstrings(owner)
    return words


def _own_docstrings(kind: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(below.value.value, str)
    }


def _flat_keys() -> dict[str, Schema]:
    """Every key of a trial that a study file may set, over all methods."""
    words = {"method.name": METHOD, **attribute_docstrings(TrialConfig)}
    groups = [
        ("data", DataConfig),
        ("backbone", BackboneConfig),
        ("optim", OptimConfig),
        ("evaluation", EvaluationConfig),
    ]
    for method in catalog.methods():
        declared = catalog.declaration(method)
        # A variant's config is its method's, with other defaults.
        groups.append(("method", catalog.declaration(declared.base).config))
    for group, config in groups:
        words |= {f"{group}.{key}": text for key, text in attribute_docstrings(config).items()}
    names = _names()
    return {
        key: {**(names.get(key) or TypeAdapter(kind).json_schema()), "description": words[key]}
        for key, kind in sorted(flat_keys().items())
        if key not in RESERVED
    }


def _names() -> dict[str, Schema]:
    """Keys whose values are names that the catalog knows."""
    declared = [catalog.declaration(name) for name in catalog.methods()]
    presets = sorted({preset for method in declared for preset in method.presets})
    families = [method for method in declared if method.name == method.base]
    recipes = sorted({f"{family.name}/{data}" for family in families for data, _ in family.recipes})
    generic = {"type": "string", "pattern": "^(folder|npz):."}
    return {
        "method.name": {"enum": list(catalog.methods())},
        "data.name": {"anyOf": [{"enum": sorted(catalog.DATASETS)}, generic]},
        "backbone.name": {"type": "string", "examples": sorted(catalog.BACKBONES)},
        "preset": {"enum": [*presets, None]},
        "recipe": {"enum": [*recipes, None]},
    }


def _methods(keys: Mapping[str, Schema]) -> Schema:
    """Each method with what may be searched for it."""
    methods = {}
    for name in catalog.methods():
        own = [key for key in known_keys(name) if key in keys and searchable(key)]
        ranges = {key: {"$ref": f"#/$defs/{_range_name(key)}"} for key in own}
        lists = {"type": "array", "items": {"enum": own}}
        methods[name] = {"anyOf": [{"const": "all"}, lists, _object(ranges)]}
    return {**_object(methods), "minProperties": 1}


def _range_name(key: str) -> str:
    return f"range of {key}"


def _range(key: str) -> Schema:
    """What may be searched for a key: the method's own range, numbers, or choices."""
    number, flag, step = {"type": "number"}, {"type": "boolean"}, {"type": ["number", "null"]}
    forms: list[tuple[dict[str, Schema], list[str]]] = [
        ({"low": number, "high": number, "log": flag, "step": step}, ["low", "high"]),
        ({"choices": _list({"$ref": f"#/$defs/{key}"})}, ["choices"]),
        ({}, ["when"]),
    ]
    ranges = [{**_object({**own, "when": WHEN}), "required": needed} for own, needed in forms]
    return {
        "description": "null: the range that the search space of the method has",
        "anyOf": [{"type": "null"}, *ranges],
    }


def _object(properties: Mapping[str, Schema]) -> Schema:
    """An object with these keys and no others."""
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _list(items: Schema) -> Schema:
    """A list with at least one item."""
    return {"type": "array", "items": items, "minItems": 1}
