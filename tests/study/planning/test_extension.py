"""What `--resume --set` may change of a study."""

import pytest

from study.errors import InvalidStudyError
from study.ledger import History, history_of, records
from study.planning.data import check_unchanged
from study.planning.extension import extended_spec
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
