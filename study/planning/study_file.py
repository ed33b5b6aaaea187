"""YAML as study files use it: no key twice, and 1e-3 is a number."""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from study import errors
from study.planning.sections import flat_keys


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would keep the last of two equal keys."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML, but names a single value that is not what its form says, as 2020-13-45."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            if not isinstance(node, yaml.ScalarNode):
                raise
            raise ValueError(
                f"the text must be YAML, but {node.value!r} is no {node.tag.rpartition(':')[2]} "
                f"(line {node.start_mark.line + 1})."
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML, but refuses keys that are there twice or are no single values."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(
                    f"a key must be a single value, but the one in line {line} is not."
                )
            if key.value in lines:
                raise ValueError(
                    f"a key must occur once, but {key.value!r} is in line {lines[key.value]} "
                    f"and again in line {line}."
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


# YAML 1.1, which PyYAML follows, takes a number for text unless it has a point: 1e-3.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse(text: str) -> Any:
    """Parses one YAML document into plain Python values.

    Raises:
        ValueError: if it is not YAML, with the line; if a mapping has a key twice, or one that is
            not a single value.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        # In the order of the text, and nothing that holds itself.
        return None if node is None else loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"the text must be YAML, but {problem}{place}.") from error
    except RecursionError as error:
        raise ValueError("the text must not be nested so deeply.") from error


def read(path: Path, overrides: Sequence[str], sections: Sequence[str]) -> dict[str, Any]:
    """Returns the values of a study file, with `overrides` as of `apply`.

    Raises:
        ValueError: naming the file, if it cannot be read or is no mapping, or as `apply`.
    """
    try:
        plain = parse(path.read_text(encoding="utf-8"))
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
    """Returns the study file's values with each "key=value" applied in turn.

    `sections` are the keys of a study file; any other key must be a flat key of a trial, which
    goes to `grid` (a list of values, or one value for an axis) or to `fixed`.

    Raises:
        InvalidStudyError: naming `source`, if overrides have no "=", values that are not YAML,
            or unknown keys.
    """
    result = copy.deepcopy(dict(plain))
    mistakes: list[str] = []
    for override in overrides:
        key, separator, text = override.partition("=")
        key = key.strip()
        with errors.noted(mistakes):
            if not separator or not key:
                raise ValueError(f"--set must have the form key=value, but got {override!r}.")
            try:
                value = parse(text)
            except ValueError as error:
                raise ValueError(f"--set {key}: {error}") from error
            if key in sections:
                result[key] = value
            else:
                _set_flat(result, key, value, sections)
    errors.refuse(mistakes, source)
    return result


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
