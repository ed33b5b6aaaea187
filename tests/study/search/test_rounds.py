"""Looks at contrasts, and the seeds that follow from them, whatever happens in between."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from study.evidence import Design, boundaries, look
from study.ledger import Record, history_of
from study.planning.cells import PlannedTrial
from tests.study.search.driven_study import DrivenStudy

METHODS = ["inflora", "nearest_mean", "linear_heads", "sd_lora"]
ROUNDS = {"first": 3, "at_most": 6, "until": "decided"}
STUDY: dict[str, Any] = {
    "grid": {"method.name": METHODS},
    "fixed": {"data.tasks": 2},
    "search": "none",
    "seeds": ROUNDS,
}
MEANS = {"nearest_mean": 0.3}
CLEAR, OPEN = "inflora vs nearest_mean", "inflora vs linear_heads"
METRIC = "test/accuracy"
Value = Callable[[PlannedTrial], float]


@pytest.fixture(autouse=True)
def _quick_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A million made-up studies take seconds."""
    monkeypatch.setattr(boundaries, "PATHS", 20_000)
    boundaries.boundaries.cache_clear()
    yield
    boundaries.boundaries.cache_clear()


def noisy(trial: PlannedTrial) -> float:
    """By method and seed; the difference is clear for the class means alone."""
    name = str(trial.params["method.name"])
    return MEANS.get(name, 0.6) + random.Random(f"{name} {trial.seed}").gauss(0, 0.02)


def run(
    study: DrivenStudy, value: Value = noisy, fails: Sequence[tuple[str, int]] = ()
) -> DrivenStudy:
    """Runs a study to its end, as many trials at a time as it hands out."""
    live: list[PlannedTrial] = []
    while (trial := study.next()) != "over":
        if not isinstance(trial, str):
            live.append(trial)
            continue
        # Not in the order they were launched.
        ended = live.pop(len(live) // 2)
        if (ended.params["method.name"], ended.seed) in fails:
            study.fail(ended)
        else:
            study.end(ended, value(ended))
    return study


def finished(slots: int = 1, before: Sequence[Record] = (), **changes: Any) -> DrivenStudy:
    return run(DrivenStudy(slots, before, **{**STUDY, **changes}))


def looks(study: DrivenStudy) -> dict[str, list[Record]]:
    """The looks at each contrast, without their times."""
    found: dict[str, list[Record]] = {}
    for record in study.of("look"):
        plain = {key: value for key, value in record.items() if key != "time"}
        found.setdefault(record["contrast"], []).append(plain)
    return dict(sorted(found.items()))


def confirmed(study: DrivenStudy) -> dict[str, list[int]]:
    """The seeds of each method, in the order of the cells."""
    return {
        cell.key["method.name"]: sorted(
            record["seed"] for record in study.of("trial", cell=cell.id, role="confirm")
        )
        for cell in study.plan.cells
    }


def test_further_seeds_go_to_both_cells_of_open_contrasts_alone() -> None:
    study = finished()
    seen = looks(study)
    assert list(seen) == [OPEN, CLEAR]
    (clear,) = seen[CLEAR]
    assert (clear["verdict"], clear["seeds"], clear["next_seeds"]) == ("higher", [0, 1, 2], [])
    assert [record["seeds"] for record in seen[OPEN]] == [list(range(n)) for n in (3, 4, 5, 6)]
    assert [record["next_seeds"] for record in seen[OPEN]] == [[3], [4], [5], []]
    assert seen[OPEN][-1]["verdict"] == "undecided" and seen[OPEN][-1]["reason"] == "wide"
    first, all_six = [0, 1, 2], list(range(6))
    # SD-LoRA is in no contrast.
    assert confirmed(study) == {
        "inflora": all_six,
        "nearest_mean": first,
        "linear_heads": all_six,
        "sd_lora": first,
    }
    assert study.journal.history.without_result() == []


def test_a_look_is_what_the_evidence_says_of_the_points() -> None:
    study = finished(margin=2.5)
    (first, *_), design = looks(study)[OPEN], Design(3, 6, 2)
    arms = [
        {
            record["seed"]: 100 * study.journal.history.trials[record["trial"]].curve[2][METRIC]
            for record in study.of("trial", role="confirm", cell=f"method.name={name}")
            if record["seed"] < 3
        }
        for name in ("inflora", "linear_heads")
    ]
    expected = look(OPEN, arms[0], arms[1], design, 2.5, range(6))
    assert {key: first[key] for key in ("mean", "std", "low", "high")} == {
        key: getattr(expected, key) for key in ("mean", "std", "low", "high")
    }
    winners = study.journal.history.winners
    assert first["of"] == [winners[f"method.name={name}"].trial for name in OPEN.split(" vs ")]


@pytest.mark.parametrize("slots", [2, 5, 20])
def test_how_many_trials_run_at_a_time_changes_no_look(slots: int) -> None:
    one, many = finished(), finished(slots)
    assert looks(many) == looks(one)
    assert confirmed(many) == confirmed(one)


@pytest.mark.parametrize("begin", range(12))
@pytest.mark.parametrize("slots", [1, pytest.param(4, marks=pytest.mark.nightly)])
def test_a_study_that_was_cut_at_any_record_takes_the_same_decisions(
    slots: int, begin: int
) -> None:
    whole = finished(slots)
    assert len(whole.records) > 80
    for cut in range(1 + begin, len(whole.records), 12):
        again = finished(slots, whole.records[:cut])
        assert looks(again) == looks(whole), cut
        assert confirmed(again) == confirmed(whole), cut
    # One that is finished runs nothing again.
    assert len(finished(slots, whole.records).records) == len(whole.records) + 1


@pytest.mark.parametrize(
    ("seeds", "verdicts"),
    [
        ([4, 5, 6], {OPEN: ("undecided", "wide"), CLEAR: ("higher", "")}),
        ([4], {OPEN: ("undecided", "few_seeds"), CLEAR: ("undecided", "few_seeds")}),
    ],
)
def test_a_list_of_seeds_is_one_look(seeds: list[int], verdicts: dict[str, Any]) -> None:
    study = finished(seeds=seeds)
    seen = {name: record for name, (record,) in looks(study).items()}
    found = {name: (record["verdict"], record["reason"]) for name, record in seen.items()}
    assert found == verdicts
    for record in seen.values():
        assert (record["seeds"], record["next_seeds"]) == (seeds, [])
    assert set(map(tuple, confirmed(study).values())) == {tuple(seeds)}
    # Seeds that are added later describe, they do not decide: the error rate is spent.
    more = finished(before=study.records, seeds=[*seeds, 7])
    assert looks(more) == looks(study)
    assert set(map(tuple, confirmed(more).values())) == {(*seeds, 7)}


def same(trial: PlannedTrial) -> float:
    return 0.5


def apart(trial: PlannedTrial) -> float:
    return 0.7 if trial.params["method.name"] == "inflora" else 0.5


def no_number(trial: PlannedTrial) -> float:
    return math.nan if trial.seed == 1 else noisy(trial)


@pytest.mark.parametrize(
    ("value", "verdict", "reason", "seeds"),
    [
        (same, "identical", "", [0, 1, 2]),
        (apart, "undecided", "no_spread", list(range(6))),
        (no_number, "undecided", "not_finite", [0, 1, 2]),
    ],
)
def test_numbers_without_spread_or_none_at_all(
    value: Value, verdict: str, reason: str, seeds: list[int]
) -> None:
    study = run(DrivenStudy(**STUDY), value)
    for seen in looks(study).values():
        last = seen[-1]
        assert (last["verdict"], last["reason"]) == (verdict, reason)
        # Never an interval, hence no verdict, out of numbers that show no spread.
        assert last["low"] is None
    assert confirmed(study)["inflora"] == seeds


def test_a_failed_seed_leaves_its_pair_out_and_the_next_one_takes_its_place() -> None:
    fails = [("inflora", 0), ("nearest_mean", 1)]
    study = run(DrivenStudy(**STUDY), fails=fails)
    few, *_, last = looks(study)[CLEAR]
    # Seed 2 alone is there in both cells.
    assert (few["seeds"], few["reason"], few["next_seeds"]) == ([2], "few_seeds", [3])
    assert (last["seeds"], last["verdict"]) == ([2, 3, 4], "higher")
    assert confirmed(study)["nearest_mean"] == [0, 1, 2, 3, 4]
    # Without any pair it ends undecided, with all seeds tried.
    lost = run(DrivenStudy(**STUDY), fails=[("nearest_mean", seed) for seed in range(6)])
    last = looks(lost)[CLEAR][-1]
    assert (last["verdict"], last["reason"], last["seeds"]) == ("undecided", "few_seeds", [])
    assert confirmed(lost)["nearest_mean"] == list(range(6))


SEARCHED: dict[str, Any] = {
    "grid": {"method.name": ["sequential", "sd_lora"]},
    "search": {"sequential": ["optim.lr"], "sd_lora": ["optim.lr"]},
    "trials": 1,
}


def test_a_cell_without_a_winner_has_no_pairs_and_costs_the_other_nothing() -> None:
    study = DrivenStudy(**{**STUDY, **SEARCHED})
    failed = False
    while (trial := study.next()) != "over":
        assert isinstance(trial, PlannedTrial)
        if trial.role == "search" and not failed:
            failed = not study.fail(trial)
        else:
            study.end(trial)
    ((seen,),) = looks(study).values()
    assert (seen["verdict"], seen["reason"], seen["seeds"]) == ("undecided", "few_seeds", [])
    assert (seen["next_seeds"], seen["of"].count(None)) == ([], 1)
    assert sorted(map(len, confirmed(study).values())) == [0, 3]


def test_once_the_winner_is_another_one_its_contrasts_are_closed() -> None:
    study = finished(**SEARCHED)
    ((*_, last),) = looks(study).values()
    assert len(confirmed(study)["sd_lora"]) > 3
    more = DrivenStudy(before=study.records, **{**STUDY, **SEARCHED, "trials": 2})
    new = []
    while (trial := more.next()) != "over":
        assert isinstance(trial, PlannedTrial)
        new.append(trial)
        more.end(trial, 2.0 if trial.role == "search" else noisy(trial))
    # The second search trial of each cell wins, and is confirmed on the first seeds alone.
    assert sorted(t.seed for t in new if t.role == "confirm") == [0, 0, 1, 1, 2, 2]
    assert looks(more) == looks(study)
    history = history_of(more.records)
    assert [history.winners[cell.id].trial for cell in more.plan.cells] != last["of"]


def test_cells_that_an_extension_adds_are_in_no_contrast() -> None:
    study = finished()
    wider = {"method.name": [*METHODS, "sequential"]}
    more = finished(before=study.records, grid=wider)
    assert looks(more) == looks(study)
    assert confirmed(more)["sequential"] == [0, 1, 2]
    assert confirmed(more)["inflora"] == confirmed(study)["inflora"]


def test_a_front_is_compared_by_its_first_setting() -> None:
    study = DrivenStudy(
        **{
            **STUDY,
            **SEARCHED,
            "trials": 2,
            "objective": ["val/accuracy", "val/forgetting"],
            "pruner": {"kind": "none"},
        }
    )
    at = 0
    while (trial := study.next()) != "over":
        assert isinstance(trial, PlannedTrial)
        if trial.role == "search":
            at += 1
            study.search.note(trial, 2, {"val/accuracy": at / 9, "val/forgetting": at / 9})
        study.end(trial, noisy(trial), tasks=0 if trial.role == "search" else None)
    history = study.journal.history
    for cell in study.plan.cells:
        best, other = history.fronts[cell.id]
        seeds = {
            point.trial: sorted(
                record["seed"]
                for record in study.of("trial", cell=cell.id, searched=point.searched)
                if record["role"] == "confirm"
            )
            for point in (best, other)
        }
        assert seeds[other.trial] == [0, 1, 2]
        assert seeds[best.trial] == list(range(len(seeds[best.trial]))) > [0, 1, 2]


def test_non_inferiority_ends_where_it_is_shown() -> None:
    asked = {"first": "inflora", "second": "linear_heads", "non_inferiority": True}
    study = finished(contrasts=[asked], margin=5.0)
    ((last,),) = ([*seen[-1:]] for seen in looks(study).values())
    assert last["non_inferior"] and not last["next_seeds"]
    for earlier, later in pairwise(looks(study)[OPEN]):
        assert not earlier["non_inferior"] and later
