"""Which winners are exported at the end of a study, and what is recorded of it."""

import hashlib
import json
from pathlib import Path

import pytest

from study import model_export
from study.ledger import Record
from study.model_export import Winners, export_models
from tests.study.small_study import small_plan
from tests.study.tracked import CELL, study_records
from trainables import export
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer


def winners_of(records: list[Record]) -> Winners:
    winners = Winners()
    for one in records:
        winners.take(one)
    return winners


def test_the_first_confirmed_seed_of_the_winner_waits() -> None:
    records = study_records()
    first, second = (one for one in records if one.get("role") == "confirm")
    ((cell, (trial, checkpoint)),) = winners_of(records).waiting().items()
    assert (cell, trial["trial"]) == (CELL, first["trial"])
    assert checkpoint["path"] == "ray/one"
    end = ("end", first["trial"])
    failed = [
        {**one, "status": "failed"} if (one["kind"], one.get("trial")) == end else one
        for one in records
    ]
    assert winners_of(failed).waiting()[CELL][0]["trial"] == second["trial"]


def test_another_winner_and_what_is_exported_already_do_not_wait() -> None:
    records = study_records()
    winner = next(one for one in records if one["kind"] == "winner")
    other = {**winner, "searched": {"method.rank": 8}}
    assert winners_of([*records, other]).waiting() == {}
    trial = next(one["trial"] for one in records if one.get("role") == "confirm")
    assert winners_of([*records, {"kind": "model", "trial": trial}]).waiting() == {}


def test_a_damaged_checkpoint_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(export_models(tmp_path, winners_of(study_records()), lambda: False))
    assert found == []
    assert f"Warning: no merged weights of {CELL}: {tmp_path}/ray/one/a" in capsys.readouterr().out


def confirmed(output: Path, method: str = "inflora") -> list[Record]:
    """The records of a cell whose one confirmation has left its checkpoint."""
    plan = small_plan(grid={"method.name": [method]}, fixed={"data.tasks": 2}, seeds=[3])
    trial = plan.cells[0].trial("confirm", {}, 3)
    trainer = SequentialTrainer(TrialConfig.from_params(trial.params))
    while not trainer.done:
        trainer.train_task()
    trainer.save(output / "ray" / "one")
    size = (output / "ray" / "one" / "trainer.pt").stat().st_size
    start = {"cell": trial.cell, "role": "confirm", "params": trial.params, "seed": 3}
    checkpoint = {"task": 2, "path": "ray/one", "files": {"trainer.pt": size}}
    return [
        {"kind": "winner", "cell": trial.cell, "searched": {}, "value": None, "trial": None},
        {"kind": "trial", "trial": trial.id, "searched": {}, **start},
        {"kind": "checkpoint", "trial": trial.id, **checkpoint},
        {"kind": "end", "trial": trial.id, "status": "completed"},
    ]


@pytest.mark.slow
def test_weights_are_made_and_recorded(tmp_path: Path) -> None:
    winners = winners_of(confirmed(tmp_path))
    (record,) = export_models(tmp_path, winners, lambda: False)
    folder = tmp_path / record["folder"]
    assert folder.parent == tmp_path / "models"
    weights = (folder / "model.safetensors").read_bytes()
    assert record["sha256"] == hashlib.sha256(weights).hexdigest()
    assert record["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert json.loads((folder / "model.json").read_text())["tasks"] == 2
    winners.take(record)
    assert list(export_models(tmp_path, winners, lambda: False)) == []


@pytest.mark.slow
def test_what_cannot_be_exported_is_said_and_the_study_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = confirmed(tmp_path, "sequential")
    path = tmp_path / "ray" / "one" / "trainer.pt"
    path.unlink()
    path.write_bytes(_zip())
    records[2]["files"] = {"trainer.pt": path.stat().st_size}
    assert list(export_models(tmp_path, winners_of(records), lambda: False)) == []
    out = capsys.readouterr().out
    assert "Warning: no merged weights of method.name=sequential: UnpicklingError:" in out


def _zip() -> bytes:
    """A zip file with nothing in it, which is whole and no checkpoint."""
    return b"PK\x05\x06" + bytes(18)


def test_a_study_that_is_stopped_ends_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        model_export, "own_command", lambda module, arguments: ["sleep", "60", *arguments[:0]]
    )
    monkeypatch.setattr(model_export, "broken", lambda output, checkpoint: None)
    assert list(export_models(tmp_path, winners_of(study_records()), lambda: True)) == []


def test_what_is_sent_of_a_model_is_what_the_exporter_writes() -> None:
    assert set(model_export.FILES) == {export.WEIGHTS, export.ABOUT, export.LOADER}
