from datetime import date

import pytest

from study.planning import study_file


def test_exponents_without_a_point_are_numbers() -> None:
    assert study_file.parse("[1e-3, -2E5, 1.5e+2, '1e-3', e5]") == [1e-3, -2e5, 150.0, "1e-3", "e5"]
    assert study_file.parse("") is None


def test_a_repeated_key_is_refused_with_both_lines() -> None:
    with pytest.raises(ValueError, match="'b' is in line 2 and again in line 4"):
        study_file.parse("a:\n  b: 1\n  c: 2\n  b: 3\n")


@pytest.mark.parametrize("text", ["a: 1\n? [a, b]\n: 2\n", "a: 1\nb: {{c: d}: e}\n"])
def test_a_key_that_is_no_single_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a key must be a single value, but the one in line 2 is"):
        study_file.parse(text)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("2020-13-45", "timestamp"),
        ("!!int x", "int"),
        ("!!int ''", "int"),
        ("!!float x", "float"),
        ("!!bool x", "bool"),
        ("!!timestamp x", "timestamp"),
    ],
)
def test_a_value_that_is_not_what_it_looks_like_is_named(value: str, kind: str) -> None:
    shown = value.split()[-1].strip("'")
    for line in (f"b: [{value}]", f"{value}: 2"):
        with pytest.raises(ValueError, match=rf"be YAML, but '{shown}' is no {kind} \(line 2\)"):
            study_file.parse(f"a: 1\n{line}\n")


def test_anchors_and_merged_keys_are_plain_yaml() -> None:
    text = "a: &x {b: 1e-3, c: 2020-01-02}\nd:\n  <<: *x\n  b: 2\n"
    day = date(2020, 1, 2)
    assert study_file.parse(text) == {"a": {"b": 1e-3, "c": day}, "d": {"b": 2, "c": day}}


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tx", "- &a [*a]", "!!python/object:x 1"])
def test_broken_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        study_file.parse(text)
