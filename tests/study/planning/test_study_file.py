import math
import re
from datetime import date
from pathlib import Path

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


@pytest.mark.parametrize(
    "value",
    [
        *("007", "010", "-010", "008", "0o10", "1_000", "1_0.5", "0b11", "0x10"),
        *("1:30", "190:20:30", "1:30.5", "!!int '010'", "yes", "No", "on", "ON"),
        *("1e400", "-1.5e+999", "1e-400", "0.3e-999", "9223372036854775808", f"-{2**63}"),
        *(f"+{'9' * 50}", "9" * 150, f"!!int '{2**64}'", "!!float '1e999'"),
    ],
)
def test_what_reads_otherwise_than_it_looks_is_refused(value: str) -> None:
    shown = re.escape(value.split()[-1].strip("'"))
    for line in (f"b: [{value}]", f"{value}: 2"):
        with pytest.raises(ValueError, match=rf"but got '{shown}' \(line 2\)"):
            study_file.parse(f"a: 1\n{line}\n")
    with pytest.raises(ValueError, match=rf"--set name: .* but got '{shown}' \(line 1\)"):
        study_file.apply({}, [f"name={value}"], ["name"], "s.yaml")
    if value == shown:
        assert study_file.parse(f"'{value}'") == value


def test_numbers_that_look_as_they_read_are_taken() -> None:
    text = "[0, -1, +5, 10, 0.5, 00.5, .5, 1e-3, true, False]"
    assert study_file.parse(text) == [0, -1, 5, 10, 0.5, 0.5, 0.5, 1e-3, True, False]
    text = "[9223372036854775807, 0e-400, 0.0, 1e308, 5e-324, .inf, -.inf]"
    assert study_file.parse(text) == [2**63 - 1, 0.0, 0.0, 1e308, 5e-324, math.inf, -math.inf]


def test_halves_of_a_character_are_joined() -> None:
    for text in (r'"\ud83d\ude00"', r'"\U0001f600"', "😀"):
        assert study_file.parse(f"{{a: {text}, {text}: 1}}") == {"a": "😀", "😀": 1}


@pytest.mark.parametrize("text", [r"\ud83d", r"\ude00\ud83d", r"\ud83d \ude00", r"\udcff"])
def test_half_of_a_character_is_refused(text: str) -> None:
    for line in (f'b: "{text}"', f'"{text}": 1'):
        with pytest.raises(ValueError, match=r"whole characters, but .* \(line 2\)"):
            study_file.parse(f"a: 1\n{line}\n")


@pytest.mark.parametrize("text", [r"\UFFFFFFFF", r"\U00110000"])
def test_an_escape_beyond_the_last_character_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="one in line 2 does not"):
        study_file.parse(f'a: 1\nb: "{text}"\n')


def laughs(first: str, again: str) -> str:
    """Eight anchors, each of which repeats the one before nine times."""
    lines = [f"a0: &a0 {first}"]
    for at in range(8):
        lines.append(f"a{at + 1}: &a{at + 1} {again.replace('*', f'*a{at}')}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("[" * 1000 + "]" * 1000, "at most 30 levels"),
        ("{a: " * 1000 + "}" * 1000, "at most 30 levels"),
        ("\n".join("  " * level + "a:" for level in range(100)), "at most 30 levels"),
        (
            "\n".join(["- &a0 [x]", *(f"- &a{at + 1} [*a{at}]" for at in range(99))]),
            "at most 30 levels",
        ),
        (f"seeds: {list(range(20_000))}", "at most 10000 values"),
        (laughs("[x, x]", f"[{', '.join('*' * 9)}]"), "at most 10000 values"),
        (laughs("{b: [x, x]}", f"{{b: [{', '.join('*' * 9)}]}}"), "at most 10000 values"),
        ("- &a [*a]", "must not hold itself"),
    ],
)
def test_text_beyond_the_limits_is_refused(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"{rule}.* line|{rule}.*\(line"):
        study_file.parse(text)


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("# " + "x" * 200_000)
    with pytest.raises(ValueError, match=r"s.yaml: .* at most 200000 bytes"):
        study_file.read(tmp_path / "s.yaml", [], [])
