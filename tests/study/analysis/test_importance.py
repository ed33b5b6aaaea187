import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from study.analysis.entities import StudyRecords
from study.analysis.evidence import NotEnough
from study.analysis.importance import Importance, importance
from tests.study.analysis.made_up_trials import binomial_band, cell, study, trial

RANGES = {
    "optim__lr": "0.0003 to 0.01 (log)",
    "method__rank": "2 to 16 (log)",
    "method__epsilon": "0.8 to 0.99",
    "optim__schedule": "one of cosine, constant",
}
LR, RANK, EPSILON, SCHEDULE = (name.replace("__", ".") for name in RANGES)


def searched(
    value: Callable[[Mapping[str, Any]], float],
    trials: int,
    seed: int = 0,
    prune: float | None = None,
    mode: str = "max",
    keys: tuple[str, ...] = (LR, RANK, EPSILON, SCHEDULE),
) -> StudyRecords:
    """A random search; trials below `prune` are pruned after their first task."""
    random = np.random.default_rng(seed)
    done = []
    for number in range(trials):
        setting: dict[str, Any] = {
            LR: float(10 ** random.uniform(math.log10(3e-4), -2)),
            RANK: round(2 ** random.uniform(1, 4)),
            EPSILON: float(random.uniform(0.8, 0.99)),
            SCHEDULE: str(random.choice(["cosine", "constant"])),
        }
        own = value(setting) + random.normal(0, 0.01)
        status = "pruned" if prune is not None and own < prune else "completed"
        done.append(
            trial(
                [{"val/accuracy": own}],
                number,
                setting,
                None,
                role="search",
                searched=setting,
                status=status,
            )
        )
    return study(done, [cell("cell", {}, 5, **RANGES)], {"val/accuracy": mode})


def by_rate(setting: Mapping[str, Any]) -> float:
    """The learning rate alone matters, and has its best value in the middle."""
    return 0.6 - 0.3 * (math.log10(setting[LR]) + 2.75) ** 2


def of(found: Importance | NotEnough) -> Importance:
    assert isinstance(found, Importance), found
    return found


@pytest.mark.parametrize("prune", [None, 0.55])
def test_the_key_that_matters_leads(prune: float | None) -> None:
    found = of(importance(searched(by_rate, 120, prune=prune), "cell"))
    assert found.leader == found.keys[0].key == LR
    assert found.trials == 120
    assert found.best == 12
    assert found.keys[0].p_holm <= 0.05
    assert found.keys[0].share > 0.7 > found.keys[0].chance
    assert all(one.p_holm > 0.05 for one in found.keys[1:])
    assert math.isclose(sum(one.share for one in found.keys), 1)
    assert {one.key for one in found.keys} == {LR, RANK, EPSILON, SCHEDULE}


def test_less_may_be_better() -> None:
    upside_down = searched(lambda setting: 1 - by_rate(setting), 60, mode="min")
    flipped = [
        replace(one, tasks=(replace(one.tasks[0], metrics={"val/accuracy": 1 - value}),))
        for one in upside_down.trials
        if (value := one.final("val/accuracy")) is not None
    ]
    right_way = study(flipped, upside_down.cells)
    first, second = (of(importance(one, "cell", draws=10)) for one in (upside_down, right_way))
    assert first == second
    assert first != of(
        importance(study(flipped, right_way.cells, {"val/accuracy": "min"}), "cell", 10)
    )


def test_a_choice_can_matter() -> None:
    found = of(importance(searched(lambda one: 0.1 * (one[SCHEDULE] == "cosine"), 80), "cell", 10))
    assert found.keys[0].key == SCHEDULE
    assert found.keys[0].p_holm <= 0.05


def test_a_lead_that_half_of_the_trials_do_not_show_is_none() -> None:
    one = searched(lambda setting: 0.5 + 0.01 * math.log10(setting[LR]), 40, keys=(LR, RANK))
    found = of(importance(one, "cell"))
    assert found.leader is None
    assert found.keys[0].first < 0.95


def test_without_an_effect_a_key_passes_as_rarely_as_the_level_says() -> None:
    simulations, passed = 16, 0
    for seed in range(simulations):
        one = searched(lambda _: 0.5, 20, seed, keys=(LR, RANK))
        found = of(importance(one, "cell", draws=5))
        passed += sum(key.p <= 0.05 for key in found.keys)
    _, most = binomial_band(0.05, 2 * simulations)
    assert passed / (2 * simulations) <= most, passed


def test_the_same_records_give_the_same_answer() -> None:
    one = searched(by_rate, 30)
    assert importance(one, "cell", draws=20) == importance(one, "cell", draws=20)


def test_too_little_is_refused_with_the_reason() -> None:
    assert importance(searched(by_rate, 19), "cell") == NotEnough(
        "19 search trials with a result, 20 needed"
    )
    assert isinstance(importance(searched(by_rate, 40), "another cell"), NotEnough)
    assert importance(searched(by_rate, 40, prune=0.7), "cell") == NotEnough(
        "fewer than 5 search trials came to their end"
    )


def test_without_optuna_a_report_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "study.analysis.importance_measure", None)
    assert importance(searched(by_rate, 30), "cell") == NotEnough(
        "Optuna, which measures importance, is not installed here"
    )


def test_failures_that_say_nothing_of_the_setting_do_not_count() -> None:
    records = searched(by_rate, 30)
    broken = [
        trial(
            [],
            100 + number,
            one.params,
            None,
            role="search",
            searched=one.searched,
            status="failed",
            reason="out_of_memory",
        )
        for number, one in enumerate(records.trials)
    ]
    more = study([*records.trials, *broken], records.cells)
    assert of(importance(more, "cell", draws=20)) == of(importance(records, "cell", draws=20))


def test_settings_beyond_the_words_of_their_range_are_taken_as_they_are() -> None:
    """The ledger has ranges in six digits; a warm start may lie at an end."""
    records = searched(by_rate, 30)
    narrow = {**RANGES, "optim__lr": "0.001 to 0.002 (log)", "method__epsilon": ""}
    found = of(importance(study(records.trials, [cell("cell", {}, 5, **narrow)]), "cell", draws=10))
    assert LR in {one.key for one in found.keys}
