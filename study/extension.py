"""How a study that has begun may change when it goes on, so that all its trials stay comparable."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from study import overrides as overriding
from study.ledger import Record
from study.spec import StudySpec

# What does not change the meaning of a trial.
FREE = ("trials", "budget", "resources", "max_concurrent", "retries", "storage", "export")


def extended_spec(records: Sequence[Record], overrides: Sequence[str], source: str) -> StudySpec:
    """The spec of the last session, with `overrides` ("key=value", as of --set) applied.

    Raises:
        ValueError: if an override is wrong or would change what trials mean; names the key and
            both values.
    """
    specs = [one["spec"] for one in records if one["kind"] in ("study", "resumed")]
    if not specs:
        raise ValueError(
            f"{source} must begin with the record of a study, but has none: it was stopped before "
            f"its first trial; start it anew."
        )
    if records[0].get("once"):
        raise ValueError(f"{source} must be of a study, but is of one configuration (--once).")
    before = StudySpec.from_plain(specs[-1], source)
    known = list(before.to_plain())
    try:
        plain = overriding.apply(_plain(before), overrides, known)
        after = StudySpec.from_plain(plain, source)
        _check_grid(before.grid, after.grid, after.fixed)
        _check_seeds(before.seeds, after.seeds)
        _check_trials(records, after)
        _check_rest(_plain(before), _plain(after))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return after


def check_data(records: Sequence[Record], hashes: Mapping[str, str], source: str) -> None:
    """Refuses data whose splits are not those that the study was begun with.

    Raises:
        ValueError: naming the data set and both hashes.
    """
    before: dict[str, str] = {}
    for record in records:
        if record["kind"] in ("study", "resumed"):
            before |= record.get("data", {})
    for name, sha256 in hashes.items():
        if before.get(name, sha256) != sha256:
            raise ValueError(
                f"{source}: the split of {name} must be the one that the study was begun with "
                f"({before[name]}), but on this machine it is {sha256}."
            )


def _check_grid(
    before: Mapping[str, Sequence[Any]],
    after: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any],
) -> None:
    """Refuses other axes, and axes with a value less."""
    for key, axis in before.items():
        if key not in after:
            now = f"it is fixed at {fixed[key]!r}" if key in fixed else "it is not there"
            raise ValueError(f"grid {key} must keep {list(axis)} on --resume, but {now}.")
        gone = [value for value in _plain(axis) if value not in _plain(after[key])]
        if gone:
            raise ValueError(
                f"grid {key} must keep {list(axis)} on --resume (values can be added), "
                f"but got {list(after[key])}."
            )
    for key in after:
        if key not in before:
            raise ValueError(
                f"grid must keep its axes {list(before)} on --resume, but got {key} as well: "
                f"{list(after[key])}."
            )


def _check_seeds(before: Sequence[int], after: Sequence[int]) -> None:
    """Refuses another first seed, with which the searches run, and seeds that are gone."""
    if after[0] != before[0] or not set(before) <= set(after):
        raise ValueError(
            f"seeds must begin with {before[0]} and keep {list(before)} on --resume (seeds can be "
            f"added), but got {list(after)}."
        )


def _check_trials(records: Sequence[Record], after: StudySpec) -> None:
    """Refuses fewer trials than a cell has had."""
    ran: dict[str, set[str]] = {}
    for one in records:
        if one["kind"] == "trial" and one["role"] == "search":
            ran.setdefault(one["cell"], set()).add(one["trial"])
    most = max((len(one) for one in ran.values()), default=0)
    if after.trials < most:
        raise ValueError(
            f"trials must be at least {most} on --resume, as many as were launched in a cell, "
            f"but got {after.trials}."
        )


def _check_rest(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for key in before:
        if key in (*FREE, "grid", "seeds"):
            continue
        old, new = before[key], after[key]
        if old != new and isinstance(old, dict) and isinstance(new, dict):
            for name in sorted({*old, *new}):
                _refuse(f"{key} {name}" if key == "fixed" else f"{key}.{name}", old, new, name)
        elif old != new:
            raise ValueError(_message(key, old, new))
    if list(before["objective"]) != list(after["objective"]):
        raise ValueError(_message("objective", before["objective"], after["objective"]))


def _refuse(label: str, old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> None:
    missing = "not given"
    if old.get(name, missing) != new.get(name, missing):
        raise ValueError(_message(label, old.get(name, missing), new.get(name, missing)))


def _message(key: str, old: Any, new: Any) -> str:
    return (
        f"{key} must stay {old!r} on --resume, but got {new!r}; what may change is "
        f"{', '.join(FREE)}, and grid and seeds may get further values."
    )


def _plain(value: Any) -> Any:
    """As it is after the way through the ledger: lists and not tuples."""
    return json.loads(json.dumps(value.to_plain() if isinstance(value, StudySpec) else value))
