"""Every kind of record, from its maker through a ledger into a history."""

import inspect
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from study.ledger import (
    ContrastRecord,
    LookRecord,
    Record,
    read_history,
    read_ledger,
    read_study,
    records,
)
from study.ledger.labels import range_text
from tests.study.histories import facts, ledger_of, ranges, timed

CELL = "method.name=inflora"
KEY, FIXED = {"method.name": "inflora"}, {"data.name": "icons"}
SETTING = {"method.rank": 4, "optim.lr": 1 / 3}
SPACE = {"method.rank": IntDistribution(2, 16), "optim.lr": FloatDistribution(0.1, 1, log=True)}
VALUES = {"val/accuracy": 0.7, "memory/subspace_bytes": 1e5}
SAMPLER = {"asked": True, "number": 3, "attrs": {"generation": 1}}
PUBLISHED = {"paper": "InfLoRA", "accuracy": 0.75, "departures": ["optim.epochs is 5"]}
CONTRAST = ContrastRecord("a vs b", CELL, "method.name=sd_lora", "test/accuracy", False)
NONE = float("nan")
LOOK = LookRecord(
    *("a vs b", (0, 1), 1.5, 0.5, NONE, NONE),
    *("undecided", "few_seeds", False, False, (2,), ("a", None)),
)


def every_kind() -> list[Record]:
    """A study of two sessions, with a record of each kind."""
    compared = {"contrasts": [CONTRAST], "margin": 0.5}
    first = facts({"trials": 1}, chance=0.01, data={"icons": "aa"}, **compared)
    later = facts(
        {"trials": 2}, commit="def", data={"cub200": "bb"}, machine={"cores": 2}, **compared
    )
    params = {**FIXED, **KEY, **SETTING, "seed": 0}
    return timed(
        [
            records.study("small", "Does it hold?", first),
            records.estimate("a probe", trials=4, gpu_hours=0.5),
            records.cell(CELL, KEY, FIXED, ranges(SPACE), 3, 2, [0, 1], published=[PUBLISHED]),
            records.note(CELL, "not tried first: {}"),
            records.trial("a", CELL, "search", params, SETTING, 0, 2, 0.5, SAMPLER),
            records.task("a", 1, {"val/accuracy": 0.8, "train/loss": None}, [0.8], "n1", "H100"),
            records.checkpoint("a", 1, "ray/a", {"trainer.pt": 5}),
            records.resumed(later),
            records.continued("a", 1, "trainer.pt is damaged", 0.5),
            records.task("a", 2, {"val/accuracy": 0.7}, [None, 0.7], "n1", "H100"),
            records.end("a", "completed", retries=1),
            records.winner(CELL, "a", SETTING, 0.7, "val/accuracy", VALUES),
            records.front(CELL, [("a", SETTING, VALUES)]),
            records.trial("b", CELL, "confirm", params, SETTING, 1, 3, of="a"),
            records.end("b", "failed", "FloatingPointError: loss", "diverged"),
            records.look(**{**vars(LOOK), "low": None, "high": None}),
            records.model(CELL, "b", "models/b", 9, "cc"),
            records.warning("a test image is trained on"),
            records.failed_cell("method.name=sd_lora", "none of 2 search trials saw all tasks"),
            records.finished("interrupted", 12.5),
        ]
    )


def test_each_kind_is_read_back_as_its_maker_made_it(tmp_path: Path) -> None:
    made = every_kind()
    found = inspect.getmembers(records, inspect.isfunction)
    makers = {name for name, maker in found if maker.__module__ == records.__name__}
    assert {record["kind"] for record in made} == makers
    assert read_ledger(ledger_of(made, tmp_path)) == json.loads(json.dumps(made))


def test_a_history_and_a_report_hold_all_of_it(tmp_path: Path) -> None:
    path = ledger_of(every_kind(), tmp_path)
    history = read_history(path)
    study = history.study
    assert study is not None
    assert (study.name, study.question, study.spec) == ("small", "Does it hold?", {"trials": 2})
    assert (study.commit, study.data) == ("def", {"icons": "aa", "cub200": "bb"})
    assert [session.machine for session in history.sessions] == [{}, {"cores": 2}]
    (cell,) = history.cells.values()
    assert (cell.tasks, cell.search_tasks, cell.seeds) == (3, 2, (0, 1))
    words = {key: range_text(searched) for key, searched in cell.search.items()}
    assert words == {"method.rank": "2 to 16", "optim.lr": "0.1 to 1 (log)"}
    assert cell.published == (PUBLISHED,)
    assert history.notes == {(CELL, "not tried first: {}")}
    first, second = history.trials.values()
    assert (first.searched, first.sampler, first.planned) == (SETTING, SAMPLER, 2)
    assert (first.status, first.retries, first.curve[1]) == ("completed", 1, {"val/accuracy": 0.8})
    assert first.checkpoint and first.checkpoint[:3] == (1, "ray/a", {"trainer.pt": 5})
    assert (second.status, second.reason) == ("failed", "diverged")
    assert second.error == "FloatingPointError: loss"
    assert history.winners[CELL].searched == SETTING
    assert [(point.number, point.values) for point in history.fronts[CELL]] == [(1, VALUES)]
    assert list(history.failed_cells) == ["method.name=sd_lora"]
    assert history.models == {"b"}
    assert history.estimate is not None
    assert (history.estimate.source, history.estimate.trials) == ("a probe", 4)
    assert (history.status, history.version) == ("interrupted", records.VERSION)
    # The first session was killed six seconds after it began.
    assert history.walls.total == pytest.approx(6 + 12.5)
    report = read_study(path)
    assert (report.contrasts, report.margin) == ((CONTRAST,), 0.5)
    (look,) = report.looks
    assert history.looks == {"a vs b": [look]}
    assert math.isnan(look.low) and math.isnan(look.high)
    assert replace(look, low=0, high=0) == replace(LOOK, low=0, high=0)
    assert report.warnings == ("a test image is trained on",)
    assert report.places == ("n1 (H100)",)
    # One second before its session was killed, and two once it went on.
    assert [trial.seconds for trial in report.trials] == [3.0, 1.0]
