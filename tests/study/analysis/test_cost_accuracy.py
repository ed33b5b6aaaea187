import json
from collections.abc import Mapping

import numpy as np
import pytest

from study.analysis.cost_accuracy import CostPoint, cost_accuracy, data_words
from study.analysis.entities import CellRecord, TrialRecord
from study.analysis.summary import summarise
from tests.study.analysis.made_up_trials import study, trial

SECONDS = "time/train_seconds"
NOISE = (0.0, 0.01, -0.01, 0.02)
# Of seconds, as shares: no run takes as long as another, and their mean stays as it is.
JITTER = (-0.02, 0.01, -0.01, 0.02)


def run(cell: str, accuracy: float, seconds: float, seed: int, data: str = "icons") -> TrialRecord:
    metrics = {"test/accuracy": accuracy, SECONDS: seconds}
    return trial([metrics], seed, {"data.name": data}, cell=cell)


def points(trials: list[TrialRecord]) -> Mapping[str, CostPoint]:
    names = list(dict.fromkeys(one.cell for one in trials))
    cells = [CellRecord(name, {"method.name": name}, {}, {}, name, 5) for name in names]
    return {one.cell: one for one in cost_accuracy(summarise(study(trials, cells)))}


def test_the_front_is_what_nothing_else_is_as_cheap_and_as_accurate_as() -> None:
    levels = {
        "cheap": (0.7, 10.0),
        "dear": (0.9, 100.0),
        "beaten": (0.6, 50.0),
        "far": (0.5, 200.0),
    }
    found = points(
        [
            run(name, level + noise * (1 + level), seconds * (1 + JITTER[seed]), seed)
            for name, (level, seconds) in levels.items()
            for seed, noise in enumerate(NOISE)
        ]
    )
    assert list(found) == ["dear", "cheap", "beaten", "far"]
    assert [one.on_front for one in found.values()] == [True, True, False, False]
    assert [one.front_share for one in found.values()] == [1, 1, 0, 0]
    assert [one.seconds for one in found.values()] == pytest.approx([100, 10, 50, 200])
    # Of the cheaper and better ones, the most accurate is named.
    assert [one.beaten_by for one in found.values()][:2] == [None, None]
    assert found["beaten"].beaten_by == found["cheap"].label
    assert found["far"].beaten_by == found["dear"].label


def test_what_chance_could_turn_around_is_not_beaten_for_certain() -> None:
    one = [run("one", 0.70 + noise, 100.0, seed) for seed, noise in enumerate(NOISE)]
    other = [run("other", 0.701 - noise, 10.0, seed) for seed, noise in enumerate(NOISE)]
    found = points([*one, *other])
    assert found["other"].beaten_by is None
    assert found["one"].beaten_by is None
    share = found["one"].front_share
    assert share is not None
    assert 0.2 < share < 0.9
    assert found["other"].front_share == 1


def test_what_is_cheaper_by_chance_is_not_beaten_for_certain() -> None:
    """The same accuracies as of a sure win, with seconds that differ less than seeds do."""
    sure = {"dear": (0.6, 100.0, JITTER), "cheap": (0.8, 50.0, JITTER)}
    unsure = {
        "dear": (0.6, 100.0, (-0.3, 0.4, -0.2, 0.1)),
        "cheap": (0.8, 99.0, (0.3, 0.1, -0.4, 0)),
    }
    for levels, beaten in ((sure, "cheap"), (unsure, None)):
        found = points(
            [
                run(name, level + noise * (1 + level), seconds * (1 + jitter[seed]), seed)
                for name, (level, seconds, jitter) in levels.items()
                for seed, noise in enumerate(NOISE)
            ]
        )
        assert not found["dear"].on_front
        assert found["dear"].beaten_by == beaten


def test_cells_on_other_data_are_not_compared() -> None:
    found = points(
        [
            run(cell, level, seconds, seed, data)
            for cell, level, seconds, data in (
                ("easy", 0.9, 10.0, "fashion_mnist"),
                ("hard", 0.4, 100.0, "icons"),
            )
            for seed in range(3)
        ]
    )
    assert all(one.on_front for one in found.values())
    assert {one.data for one in found.values()} == {"fashion_mnist", "icons"}


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([{"data.name": "icons", "data.tasks": 5}], ["icons"]),
        (
            [
                {"data.name": "icons", "data.classes": 40, "data.split_sha256": "a" * 64},
                {"data.name": "digits", "data.classes": 10, "data.split_sha256": "b" * 64},
            ],
            ["icons", "digits"],
        ),
        (
            [{"data.name": one, "data.tasks": n} for one in ("icons", "digits") for n in (5, 10)],
            ["icons, 5 tasks", "icons, 10 tasks", "digits, 5 tasks", "digits, 10 tasks"],
        ),
        (
            [{"data.name": "icons", "data.classes": n} for n in (20, 40)],
            ["classes 20", "classes 40"],
        ),
        (
            [{"data.name": "icons", "data.split_sha256": one * 64} for one in "ab"],
            ["split_sha256 aaaaaaaa", "split_sha256 bbbbbbbb"],
        ),
    ],
    ids=["alone", "name", "name and tasks", "another key", "split"],
)
def test_data_are_told_apart_by_as_little_as_will_do(
    tables: list[dict[str, object]], words: list[str]
) -> None:
    every = {json.dumps(one, sort_keys=True): one for one in tables}
    assert [data_words(one, every) for one in every] == words


def test_one_seed_has_no_share_and_no_runs_have_no_point() -> None:
    found = points([run("one", 0.5, 10.0, 0), run("other", 0.6, 5.0, 0)])
    assert [one.front_share for one in found.values()] == [None, None]
    assert [one.beaten_by for one in found.values()] == [None, None]
    assert points([trial([], 0, cell="none", status="failed")]) == {}


def test_equal_cells_are_rarely_called_beaten() -> None:
    random = np.random.default_rng(0)
    simulations, wrong = 300, 0
    for _ in range(simulations):
        trials = [
            run(name, float(random.normal(0.7, 0.02)), 10.0 * (at + random.uniform(1, 1.1)), seed)
            for at, name in enumerate("abcd")
            for seed in range(3)
        ]
        wrong += any(one.beaten_by for one in points(trials).values())
    # One-sided questions with a two-sided test: half of 5 % at most, but for chance.
    assert wrong / simulations <= 0.06, wrong / simulations
