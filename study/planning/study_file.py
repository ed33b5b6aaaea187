"""A study file's values, with those of --set."""

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from study import errors
from study.ledger import METHOD
from study.planning.sections import VERSUS, flat_keys
from study.planning.yaml_text import MOST_BYTES, parse


def read(path: Path, overrides: Sequence[str], sections: Sequence[str]) -> dict[str, Any]:
    """Returns the values of a study file, with `overrides` as of `apply`.

    Raises:
        ValueError: naming the file, if it cannot be read or is no mapping, or as `apply`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"a study file must have at most {MOST_BYTES} bytes, but it has more.")
        plain = parse(text.decode("utf-8"))
        if not isinstance(plain, dict):
            raise ValueError("a study file must be a mapping of keys to values.")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be text in UTF-8, but {error}.") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return apply(plain, overrides, sections, str(path))


def apply(
    plain: Mapping[str, Any], overrides: Sequence[str], sections: Sequence[str], source: str
) -> dict[str, Any]:
    """Returns the study file's values with each "key=value" applied, in whatever order.

    `sections` are the keys of a study file; any other key must be a flat key of a trial, which
    goes to `grid` (a list of values, or one value for an axis) or to `fixed`, also where one of
    these is given too. Where that leaves out methods, so are their settings, search spaces and
    contrasts.

    Raises:
        InvalidStudyError: naming `source`, if overrides have no "=", values that are not YAML,
            unknown keys, or a key twice.
    """
    result = copy.deepcopy(dict(plain))
    mistakes: list[str] = []
    changes: dict[str, Any] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        key = key.strip()
        with errors.noted(mistakes):
            if not separator or not key:
                raise ValueError(f"--set must have the form key=value, but got {override!r}.")
            if key in changes:
                raise ValueError(f"--set must give each key once, but {key!r} is there twice.")
            try:
                changes[key] = parse(text)
            except ValueError as error:
                raise ValueError(f"--set {key}: {error}") from error
    result |= {key: value for key, value in changes.items() if key in sections}
    given = [changes.get(section) for section in ("grid", "fixed")]
    for key, value in changes.items():
        if key not in sections:
            with errors.noted(mistakes):
                if any(isinstance(section, dict) and key in section for section in given):
                    raise ValueError(f"--set must give each key once, but {key!r} is there twice.")
                _set_flat(result, key, value, sections)
    errors.refuse(mistakes, source)
    _leave_out(result, _methods(plain) - _methods(result), changes)
    return result


def _methods(plain: Mapping[str, Any]) -> set[str]:
    """The methods of a study file, as far as they are names."""
    grid, fixed = (
        section if isinstance(section := plain.get(name), dict) else {}
        for name in ("grid", "fixed")
    )
    axis = grid.get(METHOD)
    values = axis if isinstance(axis, list) else [fixed.get(METHOD)]
    return {value for value in values if isinstance(value, str)}


def _leave_out(plain: dict[str, Any], methods: set[str], given: Collection[str]) -> None:
    """Takes what `plain` says of `methods` alone out of the sections that were not `given`."""
    places = [(plain, section) for section in ("settings", "search") if section not in given]
    search = plain.get("search")
    if isinstance(search, dict) and "search" not in given:
        places.append((search, "space"))
    for place, section in places:
        own = place.get(section)
        if isinstance(own, dict):
            place[section] = {key: value for key, value in own.items() if key not in methods}
    if methods and isinstance(plain.get("contrasts"), list) and "contrasts" not in given:
        entries = [_without(entry, methods) for entry in plain.pop("contrasts")]
        if kept := [entry for entry in entries if entry is not None]:
            plain["contrasts"] = kept


def _without(entry: Any, methods: set[str]) -> Any:
    """An entry of contrasts without the levels that are `methods`; None if a side has no other."""
    if isinstance(entry, str):
        return None if methods & {level.strip() for level in VERSUS.split(entry)} else entry
    if not isinstance(entry, dict) or entry.get("key", METHOD) != METHOD:
        return entry
    sides = {side: entry[side] for side in ("first", "second") if side in entry}
    for side, levels in sides.items():
        listed = levels if isinstance(levels, list) else [levels]
        sides[side] = [level for level in listed if level not in methods]
    return {**entry, **sides} if all(sides.values()) else None


def _set_flat(plain: dict[str, Any], key: str, value: Any, sections: Sequence[str]) -> None:
    """Puts a flat key where it belongs: an axis stays one, a list makes one."""
    if key not in flat_keys():
        raise ValueError(errors.unknown("key of --set", key, {*flat_keys(), *sections}))
    # A missing or misshapen section is reported when the whole file is checked.
    grid = plain.get("grid") if isinstance(plain.get("grid"), dict) else None
    fixed = plain.setdefault("fixed", {})
    if not isinstance(fixed, dict) or grid is None:
        return
    takes_list = "tuple" in str(flat_keys()[key])
    is_axis = isinstance(value, list) and (
        not takes_list or key in grid or any(isinstance(item, list) for item in value)
    )
    if key in grid and not isinstance(value, list):
        grid[key] = [value]
    elif is_axis:
        fixed.pop(key, None)
        grid[key] = value
    else:
        grid.pop(key, None)
        fixed[key] = value
