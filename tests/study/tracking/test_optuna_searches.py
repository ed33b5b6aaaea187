"""What Optuna's own tools find of the searches of a study."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import pytest
from optuna.trial import TrialState

from study import run
from study.errors import MistakeError
from study.ledger import Record, StudyFolder
from study.tracking import write_searches
from study.tracking.optuna_searches import OptunaSearches
from tests.study.histories import ledger_of, timed
from tests.study.report.engine_ledgers import OBJECTIVE, several_objectives
from tests.study.tracking.tracked import CELL, NOON, first, study_records


def written(ledger: Sequence[Record], folder: Path) -> tuple[str, tuple[int, int]]:
    """A storage with the searches of a ledger, and what was said of it."""
    folder.mkdir(exist_ok=True)
    ledger_of(ledger, folder)
    url = f"sqlite:///{folder.parent}/searches.db"
    return url, write_searches(StudyFolder(folder), url)


def ranked(**of_spec: object) -> list[Record]:
    """The small study, with an objective."""
    ledger = study_records()
    ledger[0]["spec"] |= {"objective": {"val/accuracy": "max"}, **of_spec}
    return ledger


def test_a_cell_is_a_study_with_ranges_curves_states_and_times(tmp_path: Path) -> None:
    url, counts = written(ranked(), tmp_path / "quick-1")
    assert counts == (2, 2)
    (name,) = optuna.get_all_study_names(url)
    assert name == f"quick-1: {CELL}"
    study = optuna.load_study(study_name=name, storage=url)
    assert study.metric_names == ["val/accuracy"] and study.best_value == pytest.approx(0.6)
    done, cut = study.get_trials()
    assert (done.state, cut.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert done.params == {"method.rank": 4}
    assert done.distributions == {"method.rank": optuna.distributions.IntDistribution(1, 8)}
    assert done.intermediate_values == pytest.approx({1: 0.8, 2: 0.7, 3: 0.6})
    assert cut.intermediate_values == pytest.approx({1: 0.81})
    assert done.user_attrs["trial"] == f"{0:016x}" and done.user_attrs["val/forgetting"] > 0
    assert not [key for key in done.user_attrs if "layer_" in key]
    assert done.datetime_start is not None and done.duration is not None
    assert NOON < done.datetime_start.timestamp() < NOON + 60
    assert done.duration.total_seconds() == 4
    # What its tools draw.
    assert optuna.importance.get_param_importances(study, target=lambda trial: trial.number) == {
        "method.rank": pytest.approx(1.0)
    }


def test_what_is_there_already_stays_single(tmp_path: Path) -> None:
    ledger = ranked()
    cut = ledger[: first("end", ledger)]
    url, counts = written(cut, tmp_path / "quick-1")
    assert counts == (0, 0)
    (tmp_path / "quick-1" / "ledger.jsonl").unlink()
    assert written(ledger, tmp_path / "quick-1")[1] == (2, 2)
    assert write_searches(StudyFolder(tmp_path / "quick-1"), url) == (0, 2)
    assert written(ledger, tmp_path / "quick-2")[1] == (2, 2)
    assert len(optuna.get_all_study_names(url)) == 2


def test_of_several_objectives_each_has_its_direction(tmp_path: Path) -> None:
    url, (new, ended) = written(several_objectives(), tmp_path / "engine")
    (name,) = optuna.get_all_study_names(url)
    study = optuna.load_study(study_name=name, storage=url)
    assert new == ended == len(study.trials) and study.metric_names == list(OBJECTIVE)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert {trial.user_attrs["trial"] for trial in study.best_trials}
    outside = [t for t in study.trials if "outside of the ranges" in t.user_attrs]
    assert outside and not any(trial.params for trial in outside)


def test_failed_trials_and_those_without_a_number_are_failed(tmp_path: Path) -> None:
    ledger = ranked()
    at = first("end", ledger)
    for record in ledger:
        if record["kind"] == "task" and record["trial"] == f"{0:016x}" and record["task"] == 3:
            record["metrics"]["val/accuracy"] = None
    later = at + 1 + first("end", ledger[at + 1 :])
    ledger[later] |= {"status": "failed", "error": "it diverged", "reason": "diverged"}
    url, _ = written(ledger, tmp_path / "quick-1")
    (study,) = (
        optuna.load_study(study_name=n, storage=url) for n in optuna.get_all_study_names(url)
    )
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.FAIL]
    assert study.trials[1].user_attrs["reason"] == "diverged"
    assert all(math.isfinite(v) for t in study.trials for v in t.intermediate_values.values())


def test_a_study_that_runs_is_followed_into_the_storage_of_its_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/live.db"
    ledger, folder = ranked(tracking={"detail": "summary", "optuna": url}), tmp_path / "quick-1"
    at = first("end", ledger) + 1
    folder.mkdir()
    searches = OptunaSearches(StudyFolder(folder))
    searches.catch_up()
    ledger_of(ledger[:at], folder)
    searches.catch_up()
    assert (searches.written, searches.problem) == (1, None)
    ledger_of(ledger[at:], folder)
    searches.catch_up()
    assert (searches.written, searches.ended) == (2, 2)
    none = OptunaSearches(StudyFolder(folder), None)
    (tmp_path / "live.db").unlink()
    (tmp_path / "live.db").mkdir()
    none.catch_up()
    assert none.written == 0 and none.problem is not None and "Optuna's storage" in none.problem
    (tmp_path / "live.db").rmdir()
    none.catch_up()
    assert (none.written, none.problem) == (2, None)


def test_an_error_of_optuna_itself_is_the_storages_and_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise optuna.exceptions.StorageInternalError("it went away")

    ledger_of(ranked(), tmp_path)
    searches = OptunaSearches(StudyFolder(tmp_path), f"sqlite:///{tmp_path}/searches.db")
    with monkeypatch.context() as patched:
        patched.setattr(optuna, "create_study", broken)
        searches.catch_up()
    assert searches.problem is not None and "it went away" in searches.problem
    searches.catch_up()
    assert (searches.written, searches.problem) == (2, None)


def test_a_storage_that_cannot_be_opened_is_named_without_its_password(tmp_path: Path) -> None:
    ledger_of(timed(ranked()), tmp_path)
    with pytest.raises(
        MistakeError, match=r"storage nosuch://\*\*\*@h/db does not take"
    ) as refused:
        write_searches(StudyFolder(tmp_path), "nosuch://me:hushhush@h/db")
    assert "hushhush" not in str(refused.value)


def test_the_command_says_what_is_there_and_how_to_look_at_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger_of(ranked(), tmp_path)
    url = f"sqlite:///{tmp_path}/searches.db"
    assert run.main(["--optuna", url, str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"2 search trials of {tmp_path} are in {url}, 2 of them new." in told
    assert f"optuna-dashboard {url}" in told
    assert run.main(["--optuna", url, str(tmp_path), "--set", "trials=2"]) == 2
    assert "--optuna must be given without --set" in capsys.readouterr().err


@pytest.mark.slow
def test_the_dashboard_shows_them(tmp_path: Path) -> None:
    url, _ = written(ranked(), tmp_path / "quick-1")
    app = optuna_dashboard.wsgi(url)
    (known,) = _json_of(app, "/api/studies")["study_summaries"]
    assert known["study_name"] == f"quick-1: {CELL}"
    shown = _json_of(app, f"/api/studies/{known['study_id']}")
    assert [trial["state"] for trial in shown["trials"]] == ["Complete", "Pruned"]


def _json_of(app: Any, path: str) -> Any:
    """What an application of WSGI answers to GET."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    return json.loads(b"".join(app(environ, lambda status, headers, *_: None)))
