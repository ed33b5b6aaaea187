"""YAML as study files use it: no key twice, and 1e-3 is a number."""

import contextlib
import re
from typing import Any

import yaml

# YAML 1.1, which PyYAML follows, takes a number for text unless it has a point: 1e-3.
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


def parse(text: str) -> Any:
    """Parses one YAML document into plain Python values.

    Raises:
        ValueError: if it is not YAML, with the line; if a mapping has a key twice, or one that is
            not a single value.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return None
        _tidy(node)
        return yaml.constructor.SafeConstructor().construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(f"the text must be YAML, but {_one_line(error)}.") from error
    except RecursionError as error:
        raise ValueError("the text must not refer to itself or be nested so deeply.") from error


def _tidy(node: yaml.Node) -> None:
    """Refuses what plain values cannot be, and marks numbers with an exponent as numbers."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(
                    f"a key must be a single value, but the one in line {line} is not."
                )
            if key.value in seen:
                raise ValueError(
                    f"a key must occur once, but {key.value!r} is in line {seen[key.value]} "
                    f"and again in line {line}."
                )
            seen[key.value] = line
            _check_value(key)
            _tidy(value)
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            _tidy(one)
    else:
        if getattr(node, "style", "") is None and _EXPONENT.fullmatch(node.value):
            node.tag = "tag:yaml.org,2002:float"
        _check_value(node)


def _check_value(node: yaml.Node) -> None:
    """Refuses a single value that is not what its tag or its form says, as 2020-13-45."""
    try:
        # What PyYAML has an error for, it tells when it takes the whole.
        with contextlib.suppress(yaml.YAMLError):
            yaml.constructor.SafeConstructor().construct_document(node)
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise ValueError(
            f"the text must be YAML, but {node.value!r} is no {node.tag.rpartition(':')[2]} "
            f"(line {node.start_mark.line + 1})."
        ) from error


def _one_line(error: yaml.YAMLError) -> str:
    """The problem and its place, without the excerpt that spans several lines."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{problem}{place}"
