"""What declared contrasts come to, of ledgers of a few lines."""

import math
from typing import Any

import pytest
from scipy import stats

from study.analysis.contrasts import AFTER, BEFORE, Later, contrasts_of
from study.ledger import ContrastRecord, in_points
from tests.study.report.two_arms import (
    ARMS,
    FAILED,
    GOOD,
    ONE,
    RUNNING,
    ledger,
    result,
    shifted,
    taken,
)


@pytest.mark.parametrize(
    ("by", "verdict", "reason", "note"),
    [
        ([16.0, 17.0, 16.5], "higher", "", False),
        ([-16.0, -17.0, -16.5], "lower", "", False),
        ([0.5, 0.55, 0.45], "higher", "", True),
        ([-0.5, -0.55, -0.45], "lower", "", True),
        ([0.1, -0.1, 0.05], "equal", "", False),
        ([2.0, -1.0, 1.0], "undecided", "wide", False),
        ([0.0, 0.0, 0.0], "identical", "", False),
        ([1.5, 1.5, 1.5], "undecided", "no_spread", False),
    ],
)
def test_every_verdict(by: list[float], verdict: str, reason: str, note: bool) -> None:
    found = result(GOOD, shifted(by))
    assert (found.first, found.second, found.group) == ("inflora", "nearest_mean", "")
    assert (found.look.verdict, found.look.reason) == (verdict, reason)
    assert found.look.by_less_than_margin == note
    assert found.look.mean == pytest.approx(sum(by) / 3)
    assert (found.declared, found.margin, found.family) == (BEFORE, 1.0, 1)
    assert not found.so_far and found.look.next_seeds == ()
    # Only a spread tells how many seeds would decide.
    assert (found.seeds_to_decide is not None) == (reason == "wide")


def test_what_would_decide_is_more_than_there_was() -> None:
    found = result(GOOD, shifted([2.0, -1.0, 1.0]))
    assert found.seeds_to_decide is not None and found.seeds_to_decide > 3


def test_one_seed_and_a_missing_cell_are_undecided() -> None:
    one = result({0: 0.8}, {0: 0.5}, seeds=(0,))
    assert (one.look.verdict, one.look.reason, one.look.seeds) == ("undecided", "few_seeds", (0,))
    assert one.look.mean == pytest.approx(30) and math.isnan(one.look.low)
    lost = result(GOOD, None)
    assert (lost.look.verdict, lost.look.reason) == ("undecided", "few_seeds")
    assert (lost.lacking, lost.look.seeds, lost.so_far) == (("nearest_mean",), (), False)
    assert lost.seeds_to_decide is None


def test_a_failed_seed_and_other_seeds_leave_the_common_ones() -> None:
    failed = result(GOOD, {**shifted([16, 17, 16.5]), 1: FAILED})
    assert (failed.look.seeds, failed.failed, failed.pending) == ((0, 2), (1,), ())
    assert failed.look.mean == pytest.approx(16.25)
    apart = result({0: 0.8, 1: 0.7}, {1: 0.5, 2: 0.4}, seeds=())
    assert (apart.look.seeds, apart.look.reason) == ((1,), "few_seeds")
    never = result({0: 0.8, 1: 0.7}, {2: 0.5, 3: 0.4}, seeds=())
    assert never.look.seeds == () and math.isnan(never.look.mean)
    assert never.look.verdict == "undecided"


def test_a_value_that_is_no_number_decides_nothing() -> None:
    found = result(GOOD, {**shifted([16, 17, 16.5]), 2: math.nan})
    assert (found.look.verdict, found.look.reason) == ("undecided", "not_finite")
    assert math.isnan(found.look.mean) and found.seeds_to_decide is None


def test_before_the_last_seed_has_ended_there_is_no_verdict() -> None:
    early = result(GOOD, {**shifted([16, 17, 16.5]), 2: RUNNING}, finished=False)
    assert early.so_far and early.pending == (2,)
    assert (early.look.verdict, early.look.reason) == ("undecided", "few_seeds")
    assert early.look.mean == pytest.approx(16.5) and math.isnan(early.look.low)


HIGHER: dict[str, Any] = {"low": 1.0, "verdict": "higher", "reason": "", "next_seeds": ()}
ROUNDS = {"first": 3, "at_most": 8, "until": "decided"}


def test_the_last_look_that_was_taken_counts() -> None:
    other = ContrastRecord("another", ARMS[1], ARMS[0], "test/accuracy", False)
    options: dict[str, Any] = {"seeds": ROUNDS, "finished": False, "contrasts": (ONE, other)}
    arms = (GOOD, shifted([16, 17, 16.5]))
    about_other = taken(contrast="another")
    open_, _ = contrasts_of(ledger(*arms, **options, looks=[taken(), about_other]))
    assert (open_.look.mean, open_.so_far, open_.pending) == (7.0, True, (3,))
    later = taken(seeds=(0, 1, 2, 3), **HIGHER)
    done, _ = contrasts_of(ledger(*arms, **options, looks=[taken(), later, about_other]))
    assert (done.look.verdict, done.look.seeds, done.so_far) == ("higher", (0, 1, 2, 3), False)
    assert not done.earlier


def test_numbers_that_a_look_does_not_have_are_null_in_its_record() -> None:
    blank = taken(mean=None, std=None, low=None, high=None, seeds=(), reason="few_seeds")
    found = result(GOOD, None, looks=[{**blank, "of": ("x", None), "next_seeds": ()}])
    assert math.isnan(found.look.mean) and found.look.reason == "few_seeds"


def test_a_look_at_earlier_settings_is_said_to_be_one() -> None:
    """Its error rate is spent: other settings get no verdict of their own."""
    arms = (GOOD, shifted([-16, -17, -16.5]))
    found = result(*arms, looks=[taken(**HIGHER, of=("before", "x"))])
    assert (found.look.verdict, found.earlier) == ("higher", True)
    # One without any pair has seen nothing.
    none = taken(**{**HIGHER, "verdict": "undecided"}, seeds=(), of=("before", "x"))
    assert result(*arms, looks=[none]).look.verdict == "lower"


def test_a_look_that_nobody_took_spends_what_the_design_has_for_it() -> None:
    seeds = {**ROUNDS, "at_most": 4}
    found = result(GOOD, shifted([1.1, 2.3, 1.7]), seeds=seeds)
    alpha = 0.05 * (3 / 4) ** 2
    half = float(stats.t.isf(alpha / 2, 2)) * found.look.std / math.sqrt(3)
    assert found.look.high - found.look.mean == pytest.approx(half)
    assert (found.look.verdict, found.so_far) == ("undecided", False)


def test_the_family_shares_the_error_rate() -> None:
    arms = (GOOD, shifted([0.9, 2.0, 1.4]))
    turned = ContrastRecord("b vs a", ARMS[1], ARMS[0], "test/accuracy", False)
    alone, pair = result(*arms), contrasts_of(ledger(*arms, contrasts=(ONE, turned)))
    assert [own.name for own in pair] == ["a vs b", "b vs a"]
    assert pair[0].look.mean == -pair[1].look.mean
    assert pair[0].look.low < alone.look.low and pair[0].family == 2
    assert (alone.look.verdict, pair[0].look.verdict) == ("higher", "undecided")


def test_what_is_declared_later_is_a_family_of_its_own_and_marked() -> None:
    study = ledger(GOOD, shifted([16, 17, 16.5]))
    assert len(contrasts_of(study, Later((ONE,), 1.0))) == 1
    before, after = contrasts_of(study, Later((ONE,), 20.0))
    assert (before.declared, after.declared) == (BEFORE, AFTER)
    assert (before.margin, after.margin, after.look.by_less_than_margin) == (1.0, 20.0, True)
    # What came after the only look can be looked at again, as what it is.
    more = ledger(GOOD, shifted([16, 17, 16.5]), looks=[taken(**HIGHER, seeds=(0, 1))])
    assert [own.look.seeds for own in contrasts_of(more, Later((ONE,), 1.0))] == [(0, 1), (0, 1, 2)]


def test_shares_are_in_points_and_other_metrics_in_their_unit() -> None:
    assert in_points("test/accuracy", 0.5) == in_points("test/lost/heads", 0.5) == 50
    assert in_points("memory/branch_bytes", 7.0) == 7.0
