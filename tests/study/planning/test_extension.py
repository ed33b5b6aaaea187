"""What `--resume --set` may change of a study."""

import json
from dataclasses import replace

import pytest

from study.errors import InvalidStudyError
from study.ledger import History, history_of, records
from study.planning.cells import Role
from study.planning.data import check_unchanged
from study.planning.extension import extended_spec
from study.planning.openings import opening_records
from study.planning.plan import extended_plan
from tests.study.histories import facts, timed
from tests.study.small_study import records_of, small_plan

CHANGES = {
    "name=other": "name must stay 'small' on --resume, but got 'other'",
    "data.tasks=[2]": "grid data.tasks must keep [2, 4] on --resume (values can be added), but",
    "data.classes=[4, 8]": "grid must keep its axes ['method.name', 'data.tasks'] on --resume, but",
    "seeds=[1, 0]": "seeds must begin with 0 and keep [0, 1] on --resume (seeds can be added), but",
    "trials=1": "trials must be at least 2 on --resume, as many as were launched in a cell, but",
    "optim.epochs=3": "fixed optim.epochs must stay 1 on --resume, but got 3; what may change is",
    "optim.lr=0.5": "fixed optim.lr must stay 'not given' on --resume, but got 0.5",
    "search=none": "search.space must stay 'all' on --resume, but got 'none'",
    "sampler=random": "sampler must stay 'tpe' on --resume, but got 'random'",
    "pruner={kind: none}": "pruner.kind must stay 'asha' on --resume, but got 'none'",
    "objective={val/accuracy: min}": "objective.val/accuracy must stay 'max' on --resume, but got",
}


def begun() -> History:
    """A study with two search trials in its first cell."""
    plan = small_plan()
    ledger = [records.study("small", "?", facts(plan.spec.to_plain()))]
    for rate in (0.001, 0.002):
        searched = {"optim.lr": rate, "method.rank": 2}
        ledger += records_of(plan.cells[0].trial("search", searched, 0), status=None)
    return history_of(timed(ledger), "ledger")


def test_what_would_change_the_meaning_of_trials_is_refused_all_at_once() -> None:
    with pytest.raises(InvalidStudyError) as error:
        extended_spec(begun(), list(CHANGES))
    assert str(error.value).startswith(f"ledger: {len(CHANGES)} mistakes:")
    for start in CHANGES.values():
        assert any(line.startswith(start) for line in error.value.mistakes), start


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=[0]", r"seeds must begin with 0 and keep \[0, 1\] .* but got \[0\]"),
        ("optim.lrr=1", "unknown key of --set 'optim.lrr'"),
        ("trials=x", "trials must be a whole number"),
    ],
)
def test_the_ledger_is_named_once(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^ledger: {message}"):
        extended_spec(begun(), [override])


@pytest.mark.parametrize(
    "overrides",
    [
        ["trials=20", "budget={wall_hours: 2}", "resources={cpu: 2}", "max_concurrent=3"],
        ["seeds=[0, 1, 5]", "retries=4", "storage=/tmp", "export=none", "tracking=none"],
        ["data.tasks=[2, 4, 8]", "method.name=[sd_lora, inflora, sequential]"],
    ],
)
def test_what_adds_to_a_study_is_taken(overrides: list[str]) -> None:
    spec = extended_spec(begun(), overrides)
    for left_out in overrides:
        others = [override for override in overrides if override != left_out]
        assert spec != extended_spec(begun(), others)


COMPARED = {
    "grid": {"method.name": ["inflora", "nearest_mean"], "data.tasks": [2]},
    "search": "none",
    "seeds": {"first": 3, "at_most": 5, "until": "decided"},
}


def compared(*roles: Role) -> History:
    """A study with contrasts, with a trial of each role in its first cell."""
    plan = small_plan(**COMPARED)
    ledger = opening_records(plan, {}, {})
    for role in roles:
        ledger += records_of(plan.cells[0].trial(role, {}, 0), status=None)
    return history_of(timed(json.loads(json.dumps(ledger))), "ledger")


def test_what_is_compared_is_settled_once_a_confirmation_has_begun() -> None:
    override = ["contrasts=[nearest_mean vs inflora]", "margin=2"]
    plan = extended_plan(compared("search"), override)
    (contrast,) = plan.contrasts
    assert (contrast.name, plan.spec.margin) == ("nearest_mean vs inflora, 2 tasks", 2)
    with pytest.raises(InvalidStudyError) as error:
        extended_plan(compared("search", "confirm"), override)
    first, second = error.value.mistakes
    assert first.startswith("contrasts must stay None on --resume once a confirmation has begun")
    assert "margin must stay 1.0 on" in second and "--report DIR --contrasts FILE" in second


@pytest.mark.parametrize("seeds", ["{first: 3, at_most: 9, until: decided}", "[0, 1, 2, 3, 4]"])
def test_seeds_until_decided_stay_as_they_are(seeds: str) -> None:
    with pytest.raises(InvalidStudyError, match=r"the error rate is spent over first and at_most"):
        extended_plan(compared(), [f"seeds={seeds}"])


def test_cells_that_come_later_are_in_no_contrast() -> None:
    wider = ["data.tasks=[2, 4]"]
    plan = extended_plan(compared(), wider)
    assert [contrast.name[-7:] for contrast in plan.contrasts] == ["2 tasks", "4 tasks"]
    plan = extended_plan(compared("confirm"), wider)
    assert [contrast.name[-7:] for contrast in plan.contrasts] == ["2 tasks"]
    assert [len(cell.further) for cell in plan.cells] == [2, 0, 2, 0]
    assert plan.design.contrasts == 1
    # A release that declared nothing before the data has nothing to look at.
    old = compared("confirm")
    old.contrasts = ()
    assert extended_plan(old, []).contrasts == ()


def test_a_contrast_of_cells_that_are_not_there_is_refused() -> None:
    history = compared("confirm")
    history.contrasts = (replace(history.contrasts[0], second="gone"),)
    with pytest.raises(ValueError, match="must be of cells of ledger, but is of 'gone'"):
        extended_plan(history, [])


def test_the_spec_of_the_last_session_counts() -> None:
    history = begun()
    later = extended_spec(history, ["trials=7"])
    history.add({**records.resumed(facts(later.to_plain())), "time": 2e6})
    assert extended_spec(history, []).trials == 7


def test_what_cannot_be_gone_on_with_is_refused() -> None:
    with pytest.raises(ValueError, match="the ledger must begin with the record of a study"):
        extended_spec(history_of([]), [])
    once = records.study("small", "?", facts({}), once=True)
    with pytest.raises(ValueError, match=r"must be of a study, but is of one .* \(--once\)"):
        extended_spec(history_of(timed([once])), [])


def test_other_splits_are_refused_with_both_hashes() -> None:
    data = {"cub200": "aaa", "cars": "ccc"}
    history = history_of(timed([records.study("small", "?", facts({}, data=data))]))
    check_unchanged(history, {"cub200": "aaa", "new": "nnn"})
    with pytest.raises(ValueError, match=r"split of cub200 .*\(aaa\), but on this machine it is b"):
        check_unchanged(history, {"cub200": "bbb"})
