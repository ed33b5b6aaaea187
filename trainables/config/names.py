"""What is said of a value that is none of the known names: the closest, and few names all."""

import difflib
from collections.abc import Iterable
from typing import Any

# More names than these are a page, in which nobody looks: the nearest are told instead.
MOST_NAMES, NEAREST = 12, 3


def hint(value: Any, names: Iterable[Any]) -> str:
    """Asks whether the closest name was meant, if one is close."""
    close = difflib.get_close_matches(str(value), [str(name) for name in names], n=1)
    return "".join(f" Did you mean {name!r}?" for name in close)


def one_of(key: str, value: Any, names: Iterable[str], also: str = "") -> str:
    """Says that a value must be one of these names, or what is `also` allowed."""
    known = sorted(names)
    if len(known) <= MOST_NAMES:
        return f"{key} must be one of {known}{also}, but got {value!r}.{hint(value, known)}"
    nearest = difflib.get_close_matches(str(value), known, NEAREST, 0.0)
    near = hint(value, known) or f" The nearest are {nearest}."
    return f"{key} must be one of {len(known)} names{also}, but got {value!r}.{near}"


def unknown_key(key: str, method: str, names: Iterable[str]) -> str:
    """Says that a method has no such key, with the closest."""
    known = list(names)
    nearest = difflib.get_close_matches(key, known, NEAREST, 0.0)
    near = hint(key, known) or f" The nearest are {nearest}."
    return f"unknown key {key!r} for method {method}.{near}"
