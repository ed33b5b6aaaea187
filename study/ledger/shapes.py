"""What each kind of record must look like to be read: its entries, and of which type they are."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from study.ledger.own_paths import is_checkpoint, is_model, is_name, is_relative
from study.ledger.records import Record

# Of the year 9999, the last that Python's dates know.
LAST_TIME = 253_402_300_799
MOST_TASKS = 1_000_000
DEEPEST = 32
# Of a floating-point number.
MOST_BITS = 1023
LONGEST_SHOWN = 60

Test = Callable[[Any], bool]
# A type, or what tells whether a value is right.
Check = type | Test
_PLAIN = {int, float, type(None)}
VERDICTS = ("higher", "lower", "equal", "undecided", "identical")


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= LAST_TIME


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_TASKS


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _are_numbers(values: Any) -> bool:
    """Whether all are finite numbers or None; the commonest check, so without a call for each."""
    if not set(map(type, values)) <= _PLAIN:
        return False
    try:
        return all(map(math.isfinite, [value for value in values if value is not None]))
    except OverflowError:
        return False


def _optional(check: Test) -> Test:
    return lambda value: value is None or check(value)


def _list_of(check: Test) -> Test:
    return lambda value: isinstance(value, list | tuple) and all(map(check, value))


def _mapping_of(check: Test) -> Test:
    return lambda value: isinstance(value, Mapping) and all(map(check, value.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_spec(value: Any) -> bool:
    objective = value.get("objective") if _is_mapping(value) else 0
    return objective is None or _mapping_of(_is_text)(objective)


def _is_contrast(value: Any) -> bool:
    return _is_mapping(value) and not _problems(CONTRAST, value)


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_point(value: Any) -> bool:
    return _is_mapping(value) and not _problems(POINT, value)


def _is_sampler(value: Any) -> bool:
    return _is_mapping(value) and not (value and _problems(SAMPLER, value))


TEXT = ("a text", _is_text)
OPTIONAL_TEXT = ("a text or null", _optional(_is_text))
NAME = ("a name without '/', no path", is_name)
NUMBER = ("a finite number", _is_number)
OPTIONAL_NUMBER = ("a finite number or null", _optional(_is_number))
COUNT = (f"a whole number from 0 to {MOST_TASKS}", _is_count)
OPTIONAL_COUNT = (f"null or a whole number up to {MOST_TASKS}", _optional(_is_count))
MAPPING = ("an object", Mapping)
TEXTS = ("an object of texts", _mapping_of(_is_text))
OBJECTS = ("an object of objects", _mapping_of(_is_mapping))
METRICS = (
    "an object of finite numbers or null",
    lambda value: isinstance(value, Mapping) and _are_numbers(value.values()),
)
ROW = (
    "a list of finite numbers or null",
    lambda value: isinstance(value, list | tuple) and _are_numbers(value),
)
Entries = Mapping[str, tuple[str, Check]]
SEEDS = ("a list of whole numbers in [0, 2**31)", _list_of(_is_seed))
TRUTH = ("true or false", lambda value: type(value) is bool)
CONTRAST: Entries = {
    "name": TEXT,
    "first": TEXT,
    "second": TEXT,
    "metric": TEXT,
    "non_inferiority": TRUTH,
}
_SESSION: Entries = {
    "spec": ("an object, its objective one of texts", _is_spec),
    "versions": TEXTS,
    "commit": OPTIONAL_TEXT,
    "host": TEXT,
    "machine": MAPPING,
    "chance": OPTIONAL_NUMBER,
    "data": TEXTS,
    "splits": OBJECTS,
    "contrasts": ("a list of contrasts", _list_of(_is_contrast)),
    "margin": ("a number above 0", lambda value: _is_number(value) and value > 0),
}
# Entries that ledgers of earlier releases lack.
LATER = ("contrasts", "margin")
POINT: Entries = {"trial": TEXT, "searched": MAPPING, "values": METRICS}
SAMPLER: Entries = {
    "asked": ("true or false", bool),
    "number": COUNT,
    "attrs": MAPPING,
}
ENTRIES: Mapping[str, Entries] = {
    "study": {"name": TEXT, "question": TEXT, **_SESSION},
    "resumed": _SESSION,
    "cell": {
        "cell": TEXT,
        "key": MAPPING,
        "fixed": MAPPING,
        "search": MAPPING,
        "tasks": OPTIONAL_COUNT,
        "search_tasks": OPTIONAL_COUNT,
        "seeds": SEEDS,
        "tuned_in": OPTIONAL_TEXT,
        "published": ("a list of objects", _list_of(_is_mapping)),
    },
    "trial": {
        "trial": NAME,
        "cell": TEXT,
        "role": ("'search' or 'confirm'", lambda value: value in ("search", "confirm")),
        "params": MAPPING,
        "searched": MAPPING,
        "seed": ("a whole number in [0, 2**31)", _is_seed),
        "tasks": OPTIONAL_COUNT,
        "gpus": NUMBER,
        "sampler": ("null, {} or asked, number and attrs", _optional(_is_sampler)),
    },
    "continued": {"trial": NAME, "gpus": NUMBER},
    "task": {
        "trial": NAME,
        "task": COUNT,
        "metrics": METRICS,
        "accuracy_row": ROW,
        "host": OPTIONAL_TEXT,
        "device": OPTIONAL_TEXT,
    },
    "checkpoint": {
        "trial": NAME,
        "task": COUNT,
        "path": ("'checkpoint' or a folder below 'ray/'", is_checkpoint),
        "files": (
            "an object of bytes by paths that lead downwards",
            lambda value: _mapping_of(_is_size)(value) and all(map(is_relative, value)),
        ),
    },
    "end": {
        "trial": NAME,
        "status": (
            "completed, pruned, failed or interrupted",
            lambda value: value in ("completed", "pruned", "failed", "interrupted"),
        ),
        "error": OPTIONAL_TEXT,
        "reason": OPTIONAL_TEXT,
        "retries": OPTIONAL_COUNT,
    },
    "winner": {
        "cell": TEXT,
        "trial": TEXT,
        "searched": MAPPING,
        "value": OPTIONAL_NUMBER,
        "objective": TEXT,
    },
    "front": {
        "cell": TEXT,
        "points": ("a list of settings with their values", _list_of(_is_point)),
    },
    "failed_cell": {"cell": TEXT, "error": TEXT},
    "look": {
        "contrast": TEXT,
        "seeds": SEEDS,
        **dict.fromkeys(("mean", "std", "low", "high"), OPTIONAL_NUMBER),
        "verdict": (f"one of {VERDICTS}", lambda value: value in VERDICTS),
        "reason": TEXT,
        "by_less_than_margin": TRUTH,
        "non_inferior": TRUTH,
        "next_seeds": SEEDS,
        "of": (
            "two texts or null",
            lambda value: _list_of(_optional(_is_text))(value) and len(value) == 2,
        ),
    },
    "note": {"cell": TEXT, "text": TEXT},
    "warning": {"text": TEXT},
    "estimate": {"source": TEXT},
    "model": {
        "cell": TEXT,
        "trial": NAME,
        "folder": ("a folder below 'models/'", is_model),
        "bytes": ("a number of bytes", _is_size),
        "sha256": TEXT,
    },
    "finished": {"status": TEXT, "wall_seconds": NUMBER},
}
EVERY: Entries = {"time": ("seconds since 1970", _is_time)}
ESTIMATED = ("source", "kind", "time")


def problem(record: Record) -> str | None:
    """What is wrong with a record of a known kind, as "must …, but …"; None if nothing is."""
    kind = record["kind"]
    found = _problems(ENTRIES.get(kind, {}), record) or _problems(EVERY, record)
    if found is not None:
        return found
    if kind == "task":
        return None
    if kind == "estimate":
        rest = {key: OPTIONAL_NUMBER for key in record if key not in ESTIMATED}
        found = _problems(rest, record)
    return found or _too_deep(record)


def _problems(entries: Entries, record: Mapping[str, Any]) -> str | None:
    for name, (what, check) in entries.items():
        if name not in record and name in LATER:
            continue
        if name not in record:
            return f"must have {name!r}, but lacks it"
        value = record[name]
        if not (isinstance(value, check) if isinstance(check, type) else check(value)):
            return f"must have as {name!r} {what}, but has {shown(value)}"
    return None


def _too_deep(record: Record) -> str | None:
    """What no file of a study and no report holds: numbers without end, deep nesting."""
    waiting: list[tuple[Any, int]] = [(record, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST:
            return f"must be nested {DEEPEST} deep at most, but is deeper"
        if isinstance(value, float) and not math.isfinite(value):
            return f"must hold finite numbers, but has {shown(value)}"
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            return f"must hold numbers of {MOST_BITS} bits at most, but has {shown(value)}"
        inner: Sequence[Any] = ()
        if isinstance(value, Mapping):
            inner = [*value.values()]
        elif isinstance(value, list | tuple):
            inner = value
        waiting += [(entry, depth + 1) for entry in inner]
    return None


def shown(value: Any) -> str:
    """The value for a message, cut where it is long."""
    if type(value) is int and value.bit_length() > 200:
        return "a number of more than 60 digits"
    try:
        text = repr(value)
    except RecursionError:
        return "something deeply nested"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
