"""Values of flat keys as the types that the config dataclasses declare."""

import types
import typing
from typing import Any, Literal

from trainables.config.names import hint


def convert(key: str, value: Any, kind: Any) -> Any:
    """Returns `value` as `kind`: ints as floats, lists as tuples; ValueError naming `key`."""
    for member in _members(kind):
        fits, converted = _try(value, member)
        if fits:
            return converted
    allowed = " or ".join(_words(member) for member in _members(kind))
    words = [word for member in _members(kind) for word in _choices(member)]
    raise ValueError(f"{key} must be {allowed}, but got {value!r}.{hint(value, words)}")


def _members(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return typing.get_args(kind)
    return (kind,)


def _try(value: Any, kind: Any) -> tuple[bool, Any]:
    origin = typing.get_origin(kind)
    if origin is Literal:
        # YAML 1.1 takes a bare off for a truth value.
        word = "off" if value is False else value
        return word in typing.get_args(kind), word
    if origin is tuple:
        (inner, _) = typing.get_args(kind)
        if not isinstance(value, list | tuple):
            return False, None
        tried = [_try(item, inner) for item in value]
        return all(fits for fits, _ in tried), tuple(item for _, item in tried)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return True, float(value)
    if isinstance(value, bool) and kind is not bool:
        return False, None
    return isinstance(value, kind), value


def _choices(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _words(kind: Any) -> str:
    if kind is type(None):
        return "null"
    origin = typing.get_origin(kind)
    if origin is Literal:
        return f"one of {list(typing.get_args(kind))}"
    if origin is tuple:
        return "a list of " + {str: "strings", int: "whole numbers"}.get(
            typing.get_args(kind)[0], "values"
        )
    return f"of type {kind.__name__}"
