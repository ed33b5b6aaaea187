"""Pieces of a JSON Schema, from the types and docstrings of dataclasses."""

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Schema: typing.TypeAlias = dict[str, Any]
PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


def of_type(kind: Any) -> Schema:
    """The schema of a value of a Python type.

    Raises:
        TypeError: if JSON has nothing like it.
    """
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    if origin is typing.Literal:
        return {"enum": list(inside)}
    if origin is tuple:
        return {"type": "array", "items": of_type(inside[0])}
    if origin in (types.UnionType, typing.Union):
        return any_of([of_type(one) for one in inside])
    raise TypeError(f"a field of a study must be of a type that JSON has, but one is {kind!r}.")


def any_of(schemas: Sequence[Schema]) -> Schema:
    """One of several schemas; plain types are listed together."""
    if len(schemas) == 1:
        return dict(schemas[0])
    if all(set(one) == {"type"} for one in schemas):
        return {"type": list(dict.fromkeys(one["type"] for one in schemas))}
    return {"anyOf": list(schemas)}


def object_of(properties: Mapping[str, Schema]) -> Schema:
    """An object with these keys and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
    }


def list_of(items: Schema) -> Schema:
    """A list with at least one item."""
    return {"type": "array", "items": items, "minItems": 1}


def described(kind: type) -> dict[str, str]:
    """For each field, the sentences of the class's docstring that name it."""
    names = [one.name for one in dataclasses.fields(kind)]
    text = sentences(kind)
    found = {name: _naming(name, text) for name in names}
    return {name: one for name, one in found.items() if one}


def _naming(name: str, text: Iterable[str]) -> str:
    return " ".join(one for one in text if re.search(rf"`{name}`|`{name}: ", one))


def sentences(kind: type) -> list[str]:
    """The sentences of a class's docstring."""
    text = " ".join((kind.__doc__ or kind.__name__).split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", text)
