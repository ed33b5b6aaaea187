"""What looks at contrasts add up to: which are about the present winners, and what they ask for."""

import math
from typing import Any

import pytest

from study.ledger import (
    ContrastRecord,
    LookRecord,
    further_seeds,
    history_of,
    in_points,
    is_open,
    present_looks,
    records,
)
from study.ledger.study_records import WinnerRecord
from tests.study.histories import facts, timed

FIRST = ContrastRecord("a vs b", "a", "b", "test/accuracy", False)
SECOND = ContrastRecord("a vs c", "a", "c", "test/accuracy", False)
WINNERS = {
    cell: WinnerRecord(cell, f"won {cell}", {}, None, "val/accuracy") for cell in ("a", "b", "c")
}
LOOKED = ("won a", "won b")


def look(
    *further: int,
    of: tuple[str | None, str | None] = LOOKED,
    seeds: tuple[int, ...] = (0, 1, 2),
    contrast: str = "a vs b",
) -> LookRecord:
    numbers = (1.0, 0.5, -1.0, 3.0)
    return LookRecord(contrast, seeds, *numbers, "undecided", "wide", False, False, further, of)


def test_a_contrast_is_open_until_a_look_asks_for_nothing_more() -> None:
    assert is_open(FIRST, [], WINNERS)
    assert is_open(FIRST, [look(3)], WINNERS)
    assert not is_open(FIRST, [look(3), look()], WINNERS)
    assert is_open(SECOND, [look()], WINNERS)


def test_looks_at_earlier_winners_are_not_those_of_the_present_ones() -> None:
    before, now = look(3, of=("earlier", "won b")), look(4)
    assert present_looks(FIRST, [before, now], WINNERS) == [now]
    # Its error rate is spent on the winners that there were.
    assert not is_open(FIRST, [before], WINNERS)
    # Without a pair nothing was seen.
    assert is_open(FIRST, [look(of=(None, "won b"), seeds=())], WINNERS)
    assert not is_open(FIRST, [look(of=(None, "won b"), seeds=())], {"b": WINNERS["b"]})


def test_a_cell_gets_the_seeds_that_any_of_its_contrasts_asks_for() -> None:
    other = look(3, 4, of=("won a", "won c"), contrast="a vs c")
    old = look(9, of=("earlier", "won b"))
    asked = further_seeds([FIRST, SECOND], [old, look(3), other, look(5), look()], WINNERS)
    assert asked == {"a": (3, 4, 5), "b": (3, 5), "c": (3, 4)}
    assert further_seeds([FIRST], [look()], WINNERS) == {}


def test_shares_are_in_points_and_other_metrics_as_they_are() -> None:
    assert in_points("test/forgetting", 0.25) == in_points("test/lost/heads", 0.25) == 25
    assert in_points("memory/branch_bytes", 7.0) == in_points("time/train_seconds", 7.0) == 7


def test_the_last_session_says_what_is_compared_and_older_ledgers_say_nothing() -> None:
    opening = records.study("small", "?", facts({}, contrasts=[FIRST]))
    resumed = records.resumed(facts({}, contrasts=[SECOND], margin=2.0))
    assert history_of(timed([opening])).contrasts == (FIRST,)
    history = history_of(timed([opening, resumed]))
    assert (history.contrasts, history.margin) == ((SECOND,), 2.0)
    old = {key: value for key, value in opening.items() if key not in ("contrasts", "margin")}
    history = history_of(timed([old]))
    assert (history.contrasts, history.margin, history.looks) == ((), 1.0, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrast": "a vs c"}, "the ledger has a 'look' at unknown contrast 'a vs c': line 2"),
        ({"verdict": "better"}, "must have as 'verdict' one of .*, but has 'better'"),
        ({"next_seeds": [3.5]}, "must have as 'next_seeds' a list of whole numbers"),
        ({"low": "x"}, "must have as 'low' a finite number or null, but has 'x'"),
        ({"non_inferior": 1}, "must have as 'non_inferior' true or false, but has 1"),
        ({"of": ["a"]}, "must have as 'of' two texts or null"),
    ],
)
def test_odd_looks_are_refused(changes: dict[str, Any], message: str) -> None:
    opening = records.study("small", "?", facts({}, contrasts=[FIRST]))
    odd = {**records.look(**vars(look())), **changes}
    with pytest.raises(ValueError, match=message):
        history_of(timed([opening, odd]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrasts": [{"name": "a vs b"}]}, "must have as 'contrasts' a list of contrasts"),
        ({"margin": 0}, "must have as 'margin' a number above 0, but has 0"),
        ({"margin": math.inf}, "must have as 'margin' a number above 0"),
    ],
)
def test_odd_declarations_are_refused(changes: dict[str, Any], message: str) -> None:
    opening = {**records.study("small", "?", facts({})), **changes}
    with pytest.raises(ValueError, match=message):
        history_of(timed([opening]))
