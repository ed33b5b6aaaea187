import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna import distributions

from study.analysis.importance import Importance, importance
from study.evidence import NotEnough
from study.ledger import StudyRecords
from tests.study.report.made_up_trials import binomial_band, cell, enough, study, trial

RANGES: dict[str, distributions.BaseDistribution] = {
    "optim__lr": distributions.FloatDistribution(0.0003, 0.01, log=True),
    "method__rank": distributions.IntDistribution(2, 16, log=True),
    "method__epsilon": distributions.FloatDistribution(0.8, 0.99),
    "optim__schedule": distributions.CategoricalDistribution(("cosine", "constant")),
}
LR, RANK, EPSILON, SCHEDULE = (name.replace("__", ".") for name in RANGES)


def searched(
    value: Callable[[Mapping[str, Any]], float],
    trials: int,
    seed: int = 0,
    prune: float | None = None,
    mode: str = "max",
    keys: int = len(RANGES),
) -> StudyRecords:
    """A random search of the first `keys`; trials below `prune` are pruned.

    To `min` is 1 less the value.
    """
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
        metrics = {"val/accuracy": own if mode == "max" else 1 - own}
        tried = dict(list(setting.items())[:keys])
        done.append(trial([metrics], number, setting, role="search", searched=tried, status=status))
    return study(done, [cell("cell", {}, 5, **RANGES)], {"val/accuracy": mode})


def weighed(records: StudyRecords) -> Importance | NotEnough:
    return importance(records, "cell")


def by_rate(setting: Mapping[str, Any]) -> float:
    """The learning rate alone matters, and has its best value in the middle."""
    return 0.6 - 0.3 * (math.log10(setting[LR]) + 2.75) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("prune", [pytest.param(None, marks=pytest.mark.nightly), 0.55])
def test_the_key_that_matters_leads(prune: float | None) -> None:
    result = enough(weighed(searched(by_rate, 120, prune=prune)))
    assert result.keys[0].key == LR
    assert (result.trials, result.best) == (120, 12)
    assert result.keys[0].share > 0.7 > result.keys[0].chance
    assert all(key.share < 0.2 for key in result.keys[1:])
    assert math.isclose(sum(key.share for key in result.keys), 1)
    assert {key.key for key in result.keys} == {LR, RANK, EPSILON, SCHEDULE}


def test_less_may_be_better() -> None:
    more, less = (searched(by_rate, 24, mode=mode, keys=2) for mode in ("max", "min"))
    assert enough(weighed(more)) == weighed(less)


def test_a_choice_can_matter() -> None:
    records = searched(lambda setting: 0.1 * (setting[SCHEDULE] == "cosine"), 80)
    result = enough(weighed(records))
    assert result.keys[0].key == SCHEDULE
    assert result.keys[0].share > result.keys[0].chance


@pytest.mark.slow
@pytest.mark.nightly
def test_several_keys_can_have_more_than_chance() -> None:
    def two(setting: Mapping[str, Any]) -> float:
        return by_rate(setting) + float(setting[EPSILON])

    result = enough(weighed(searched(two, 120)))
    assert {key.key for key in result.keys if key.share > key.chance} == {LR, EPSILON}
    noise = enough(weighed(searched(lambda _: 0.5, 40)))
    assert not any(key.share > key.chance for key in noise.keys)


@pytest.mark.nightly
@pytest.mark.slow
def test_without_an_effect_a_key_is_rarely_above_chance() -> None:
    simulations, passed = 16, 0
    for seed in range(simulations):
        records = searched(lambda _: 0.5, 20, seed)
        result = enough(weighed(records))
        passed += sum(key.share > key.chance for key in result.keys)
    _, most = binomial_band(0.05, 2 * simulations)
    assert passed / (2 * simulations) <= most, passed


def test_too_little_is_refused_with_the_reason() -> None:
    few = NotEnough("19 search trials with a result, 20 needed")
    assert weighed(searched(by_rate, 19)) == few
    assert isinstance(importance(searched(by_rate, 40), "another cell"), NotEnough)
    none = NotEnough("fewer than 5 search trials came to their end")
    assert weighed(searched(by_rate, 40, prune=0.7)) == none


def test_without_optuna_a_report_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    reason = "Optuna, which measures importance, is not installed here"
    assert weighed(searched(by_rate, 30)) == NotEnough(reason)


def test_failures_that_say_nothing_of_the_setting_do_not_count() -> None:
    records = searched(by_rate, 24, keys=2)
    broken = [
        replace(run, trial=f"lost {run.seed}", status="failed", reason="out_of_memory", tasks=())
        for run in records.trials
    ]
    more = study([*records.trials, *broken], records.cells)
    assert enough(weighed(more)) == weighed(records)


def test_settings_beyond_their_range_are_taken_as_they_are() -> None:
    """An older ledger has ranges in six digits; a warm start may lie at an end."""
    records = searched(by_rate, 30)
    narrow = {**RANGES, "optim__lr": distributions.FloatDistribution(0.001, 0.002, log=True)}
    del narrow["method__epsilon"]
    result = enough(weighed(study(records.trials, [cell("cell", {}, 5, **narrow)])))
    assert LR in {key.key for key in result.keys}
