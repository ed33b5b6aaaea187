"""Ledgers of version 1, read as those of today: for reports, replays and comparisons.

They had the ranges of a search in words, and left some entries out.
"""

import re
from collections.abc import Mapping
from typing import Any

from study.ledger.records import Record

VERSION = 1
_NUMBERS = re.compile(
    r"(?P<low>\S+) to (?P<high>\S+)(?P<log> \(log\))?(?: in steps of (?P<step>\S+))?"
)
_CHOICES = "one of "


_SESSION: Record = {"machine": {}, "data": {}, "splits": {}}
# Entries that were left out, by kind of record.
_ABSENT: Mapping[str, Record] = {
    "study": _SESSION,
    "resumed": _SESSION,
    "cell": {"seeds": [], "tuned_in": None, "published": []},
    "trial": {"gpus": 0.0, "sampler": None, "of": None},
    "continued": {"gpus": 0.0},
    "task": {"host": None, "device": None},
    "end": {"error": None, "reason": None, "retries": 0},
    "checkpoint": {"files": {}},
}


def upgraded(record: Record) -> Record:
    """A record as it would be written today."""
    kind = record["kind"]
    found = {**_ABSENT.get(kind, {}), **record}
    if kind == "cell":
        tasks = record.get("tasks", {**record["fixed"], **record["key"]}.get("data.tasks"))
        search = {key: _searched(text) for key, text in record["search"].items()}
        return {"search_tasks": tasks, **found, "tasks": tasks, "search": search}
    if kind == "trial":
        return {"tasks": record["params"].get("data.tasks"), **found}
    if kind == "winner":
        return {"values": {record["objective"]: record["value"]}, **found}
    return found


def _searched(text: str) -> Mapping[str, Any]:
    """A range in words ("2 to 16 (log) when …", "one of 4, 8") as the records of today have it.

    The words have six digits, and do not tell whole numbers from others, nor numbers from text.
    """
    words, _, when = text.partition(" when ")
    numbers = _NUMBERS.fullmatch(words)
    if numbers is None:
        choices = words.removeprefix(_CHOICES).split(", ")
        found = _distribution("CategoricalDistribution", choices=choices)
    else:
        found = _distribution(
            "FloatDistribution",
            low=float(numbers["low"]),
            high=float(numbers["high"]),
            log=numbers["log"] is not None,
            step=None if numbers["step"] is None else float(numbers["step"]),
        )
    if not when:
        return found
    conditions = (condition.partition(" is ") for condition in when.split(" and "))
    return {**found, "when": {key: values.split(" or ") for key, _, values in conditions}}


def _distribution(name: str, **attributes: Any) -> Mapping[str, Any]:
    return {"distribution": {"name": name, "attributes": attributes}}
