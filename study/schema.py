"""`--schema`: a JSON Schema of a study file, so that editors complete and check it."""

import types
import typing
from collections.abc import Mapping, Sequence

from study.schema_parts import (
    Schema,
    any_of,
    described,
    list_of,
    object_of,
    of_type,
    sentences,
)
from study.sections import CRITERIA, PROTOCOLS, PRUNERS, Budget, Pruner, Resources, Search
from study.spec import EXPORTS, MODES, OBJECTIVES, RESERVED, SAMPLERS, StudySpec
from trainables import catalog
from trainables.config import (
    BackboneConfig,
    DataConfig,
    OptimConfig,
    TrialConfig,
    known_keys,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Trials of a cell share these.
FIXED_GROUPS = ("data", "backbone")
# What the docstrings of the config say in no sentence of its own.
WORDS = {
    "name": "name of the study: its folder is named after it",
    "question": "what the study is to answer, in a sentence",
    "sampler": "what proposes settings; grid and qmc and random do not learn from results",
    "pruner": "when a search trial that does badly ends early",
    "resources": "what a trial occupies",
    "max_concurrent": "trials that run at the same time, at most; null: as many as fit",
    "method.name": "the method: a file in trainables/methods",
    "backbone.name": "an embedded backbone, or any model of timm",
    "data.tasks": "number of tasks that the classes arrive in",
    "data.image_size": "height and width of the images, in pixels",
    "optim.optimizer": "the optimizer, built anew for each task",
    "optim.lr": "learning rate of what has no rate of its own",
    "optim.alpha_lr": "learning rate of magnitudes (SD-LoRA); null: optim.lr",
    "optim.head_lr": "learning rate of heads; null: optim.lr",
    "optim.alpha_weight_decay": "weight decay of magnitudes; null: optim.weight_decay",
    "optim.weight_decay": "weight decay of what has none of its own",
    "optim.epochs": "epochs a task",
    "optim.batch_size": "images a step",
    "optim.precision": "of the network: products rounded to bfloat16 are faster on most devices",
}

ABOVE_ZERO: Schema = {"type": ["number", "null"], "exclusiveMinimum": 0}


def study_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a study file.

    It knows keys, types, names and the plainest limits; what depends on several keys at once is
    checked by `study/run.py --validate`.
    """
    keys = _flat_keys()
    own = {**described(StudySpec), **WORDS}
    known = {key: {"$ref": f"#/$defs/{key}"} for key in keys}
    properties: Schema = {
        "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$"},
        "question": {"type": "string", "minLength": 1},
        "grid": {
            **object_of({key: list_of(one) for key, one in known.items()}),
            "minProperties": 1,
        },
        "fixed": object_of(known),
        "search": _search(known),
        "objective": _objective(),
        "sampler": {"enum": list(SAMPLERS)},
        "pruner": _section(Pruner, {"kind": PRUNERS, "criterion": CRITERIA}),
        "trials": {"type": "integer", "minimum": 1},
        "budget": _section(Budget, replaced=dict.fromkeys(("gpu_hours", "wall_hours"), ABOVE_ZERO)),
        "seeds": {
            "anyOf": [
                {"const": "published"},
                {**list_of({"type": "integer", "minimum": 0}), "uniqueItems": True},
            ]
        },
        "resources": _section(Resources),
        "max_concurrent": {"type": ["integer", "null"], "minimum": 1},
        "retries": {"type": "integer", "minimum": 0},
        "storage": {"type": ["string", "null"], "pattern": "^/"},
        "export": {"enum": list(EXPORTS)},
    }
    for key, one in properties.items():
        one.setdefault("description", own[key])
    return {
        "$schema": DIALECT,
        "title": "study",
        "description": sentences(StudySpec)[0],
        **object_of(properties),
        "required": ["name", "question", "grid"],
        "$defs": {
            **keys,
            "methods": _methods(keys),
            **{_range_name(key): _range(key) for key in keys if _searchable(key)},
        },
    }


def _flat_keys() -> dict[str, Schema]:
    """Every key of a trial that a study file may set, over all methods."""
    schemas: dict[str, list[Schema]] = {}
    words: dict[str, str] = {}
    groups: Mapping[str, type] = {
        "data": DataConfig,
        "backbone": BackboneConfig,
        "optim": OptimConfig,
    }
    for group, kind in groups.items():
        words |= {f"{group}.{key}": text for key, text in described(kind).items()}
    words |= described(TrialConfig)
    for method in catalog.methods():
        own = described(catalog.method_config(method))
        words |= {f"method.{key}": text for key, text in own.items() if key != "name"}
        for key, kind in known_keys(method).items():
            found = schemas.setdefault(key, [])
            one = of_type(kind)
            if key not in RESERVED and one not in found:
                found.append(one)
    keys = {key: any_of(found) for key, found in schemas.items() if found}
    keys |= _named()
    words |= WORDS
    for key, one in keys.items():
        one["description"] = words[key]
    return dict(sorted(keys.items()))


def _named() -> dict[str, Schema]:
    """Keys whose values are names that the catalog knows."""
    files = [catalog.method_file(name) for name in catalog.methods()]
    presets = sorted({preset for one in files for preset in one.presets})
    recipes = sorted(
        {f"{one.name}/{data}" for one in files if one.name == one.base for data, _ in one.recipes}
    )
    generic = {"type": "string", "pattern": "^(folder|npz):."}
    return {
        "method.name": {"enum": list(catalog.methods())},
        "data.name": {"anyOf": [{"enum": sorted(catalog.DATASETS)}, generic]},
        "backbone.name": {"type": "string", "examples": sorted(catalog.BACKBONES)},
        "preset": {"enum": [*presets, None]},
        "recipe": {"enum": [*recipes, None]},
    }


def _search(known: Mapping[str, Schema]) -> Schema:
    methods = {"$ref": "#/$defs/methods"}
    data = {key: one for key, one in known.items() if key.startswith("data.")}
    elsewhere = {"type": "array", "items": {**object_of(data), "minProperties": 1}}
    section = _section(
        Search,
        {"protocol": PROTOCOLS},
        {
            "space": {"anyOf": [{"enum": ["all", "none"]}, methods]},
            "confirm_on": {**elsewhere, "description": "other data, for protocol transfer"},
        },
    )
    # The short form maps methods: it has no key in common with the section.
    return {
        "if": {"type": "object", "propertyNames": {"enum": list(catalog.methods())}},
        "then": methods,
        "else": {"anyOf": [{"enum": ["all", "none"]}, section]},
    }


def _methods(keys: Mapping[str, Schema]) -> Schema:
    """Each method with what may be searched for it."""
    found = {}
    for name in catalog.methods():
        own = [key for key in known_keys(name) if key in keys and _searchable(key)]
        ranges = {key: {"$ref": f"#/$defs/{_range_name(key)}"} for key in own}
        lists = {"type": "array", "items": {"enum": own}}
        found[name] = {"anyOf": [{"const": "all"}, lists, object_of(ranges)]}
    return {**object_of(found), "minProperties": 1}


def _searchable(key: str) -> bool:
    return key not in ("preset", "recipe", "method.name") and key.split(".")[0] not in FIXED_GROUPS


def _range_name(key: str) -> str:
    return f"range of {key}"


def _range(key: str) -> Schema:
    """What may be searched for a key: the method's own range, numbers, or choices."""
    when = {
        "type": "object",
        "description": "searched only where these searched keys have one of these values",
    }
    number: Schema = {"type": "number"}
    step: Schema = {"type": ["number", "null"]}
    numbers: dict[str, Schema] = {
        "low": number,
        "high": number,
        "log": {"type": "boolean"},
        "step": step,
    }
    choices = {"choices": list_of({"$ref": f"#/$defs/{key}"})}
    return {
        "description": "null: the range that the search space of the method has",
        "anyOf": [
            {"type": "null"},
            {**object_of({**numbers, "when": when}), "required": ["low", "high"]},
            {**object_of({**choices, "when": when}), "required": ["choices"]},
            {**object_of({"when": when}), "required": ["when"]},
        ],
    }


def _objective() -> Schema:
    names = {"enum": list(OBJECTIVES)}
    modes = object_of({name: {"enum": list(MODES)} for name in OBJECTIVES})
    return {"anyOf": [names, list_of(names), {**modes, "minProperties": 1}]}


def _section(
    kind: type,
    names: Mapping[str, Sequence[str]] = types.MappingProxyType({}),
    replaced: Mapping[str, Schema] = types.MappingProxyType({}),
) -> Schema:
    """A section with the fields of a dataclass; `names` lists what some of them may be."""
    own = described(kind)
    properties: Schema = {}
    for key, hint in typing.get_type_hints(kind).items():
        one = dict(replaced[key]) if key in replaced else of_type(hint)
        properties[key] = {"enum": list(names[key])} if key in names else one
        properties[key].setdefault("description", own.get(key, sentences(kind)[0]))
    return {**object_of(properties), "description": sentences(kind)[0]}
