from typing import Any, Literal

import pytest

from trainables.config.convert import convert


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, float, 3.0),
        (3, int, 3),
        (None, int | None, None),
        (["a"], tuple[str, ...] | None, ("a",)),
        ("first:5", str | tuple[int, ...], "first:5"),
        ([0, 2], str | tuple[int, ...], (0, 2)),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        ("x", Literal["x", "y"], "x"),
        (False, Literal["auto", "off"], "off"),
        (True, bool, True),
    ],
)
def test_converts(value: Any, kind: Any, expected: Any) -> None:
    converted = convert("key", value, kind)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "allowed"),
    [
        (True, int, "of type int"),
        (1.5, int, "of type int"),
        ("1", float, "of type float"),
        ("z", Literal["x", "y"], r"one of \['x', 'y'\]"),
        (False, Literal["x", "y"], r"one of \['x', 'y'\]"),
        (True, Literal["auto", "off"], r"one of \['auto', 'off'\]"),
        (["a"], tuple[int, ...], "a list of whole numbers"),
        ([True], str | tuple[int, ...], "of type str or a list of whole numbers"),
        (2, tuple[str, ...] | None, "a list of strings or null"),
        (None, int, "of type int"),
    ],
)
def test_refuses_naming_key_value_and_what_is_allowed(value: Any, kind: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"the.key must be {allowed}, but got"):
        convert("the.key", value, kind)
