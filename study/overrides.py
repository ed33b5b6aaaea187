"""`--set key=value`: changes of a study file from the command line."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from study import rules, yaml_text
from trainables import catalog
from trainables.config import known_keys


def apply(
    plain: Mapping[str, Any], overrides: Sequence[str], sections: Sequence[str]
) -> dict[str, Any]:
    """Returns the study file's values with each "key=value" applied in turn.

    `sections` are the keys of a study file; any other key must be a flat key of a trial, which
    goes to `grid` (a list of values, or one value for an axis) or to `fixed`.

    Raises:
        ValueError: if an override has no "=", its value is not YAML, or its key is unknown.
    """
    result = copy.deepcopy(dict(plain))
    for override in overrides:
        key, separator, text = override.partition("=")
        key = key.strip()
        if not separator or not key:
            raise ValueError(f"--set must have the form key=value, but got {override!r}.")
        try:
            value = yaml_text.parse(text)
        except ValueError as error:
            raise ValueError(f"--set {key}: {error}") from error
        if key in sections:
            result[key] = value
        else:
            _set_flat(result, key, value, sections)
    return result


def _set_flat(plain: dict[str, Any], key: str, value: Any, sections: Sequence[str]) -> None:
    """Puts a flat key where it belongs: an axis stays one, a list makes one."""
    kinds = {
        name: kind for method in catalog.methods() for name, kind in known_keys(method).items()
    }
    rules.refuse_unknown("key of --set", [key], {*kinds, *sections})
    # A missing or misshapen section is reported when the whole file is checked.
    grid = plain.get("grid") if isinstance(plain.get("grid"), dict) else None
    fixed = plain.setdefault("fixed", {})
    if not isinstance(fixed, dict) or grid is None:
        return
    takes_list = "tuple" in str(kinds[key])
    is_axis = isinstance(value, list) and (
        not takes_list or key in grid or any(isinstance(one, list) for one in value)
    )
    if key in grid and not isinstance(value, list):
        grid[key] = [value]
    elif is_axis:
        fixed.pop(key, None)
        grid[key] = value
    else:
        grid.pop(key, None)
        fixed[key] = value
