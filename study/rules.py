"""Checks of single values, with the message that states the rule and then the value."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class MistakeError(ValueError):
    """A person's mistake that shows only when the study starts; it deserves no traceback."""


def refuse_unknown(what: str, found: Iterable[Any], known: Iterable[str]) -> None:
    """Refuses names that are not known, listing the known ones and the closest.

    Raises:
        ValueError: for the first unknown one.
    """
    names = sorted(known)
    for key in found:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"unknown {what} {key!r}; known are {names}.{hint}")


def mapping(key: str, value: Any) -> Mapping[str, Any]:
    """Returns `value` if it maps texts to values.

    Raises:
        ValueError: if it does not.
    """
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{key} must map keys to values, but got {value!r}.")
    return value


def listing(key: str, value: Any) -> Sequence[Any]:
    """Returns `value` if it is a list.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key} must be a list, but got {value!r}.")
    return value


def one_of(key: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuses a value that is not among the allowed ones.

    Raises:
        ValueError: listing those.
    """
    if value not in allowed:
        raise ValueError(f"{key} must be one of {list(allowed)}, but got {value!r}.")


def whole(key: str, value: Any, least: int) -> None:
    """Refuses anything but a whole number of at least `least`.

    Raises:
        ValueError: naming that limit.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key} must be a whole number of at least {least}, but got {value!r}.")


def is_number(value: Any) -> bool:
    """Whether `value` is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
