"""Which winners are exported at the end of a study, and what is recorded of it."""

import hashlib
import json
from pathlib import Path

import pytest

from study.engine import model_export
from study.engine.model_export import export_models, waiting
from study.ledger import Record, StudyFolder, history_of, records
from study.ledger.folder import MODEL_FILES
from tests.study.histories import facts, journal_of, timed
from tests.study.small_study import records_of, small_plan
from tests.study.tracking.tracked import CELL, study_records
from trainables.config import TrialConfig
from trainables.trainer import SequentialTrainer


def exported(folder: Path, before: list[Record], stopped: bool = False) -> list[Record]:
    """The records of the models that are made."""
    written: list[Record] = []
    export_models(StudyFolder(folder), journal_of(written, before), lambda: stopped)
    return written


def test_the_first_confirmed_seed_of_the_winner_waits_until_it_is_exported() -> None:
    ledger = study_records()
    first, second = (record["trial"] for record in ledger if record.get("role") == "confirm")
    ((cell, trial),) = waiting(history_of(ledger)).items()
    assert (cell, trial.trial) == (CELL, first)
    assert trial.checkpoint is not None and trial.checkpoint.path == "ray/one"
    winner = next(record for record in ledger if record["kind"] == "winner")
    other = {**winner, "searched": {"method.rank": 8}}
    (model,) = timed([records.model(CELL, first, "models/x", 1, "ab")])
    for more in (other, model):
        assert waiting(history_of([*ledger, more])) == {}
    for record in ledger:
        if (record["kind"], record.get("trial")) == ("end", first):
            record["status"] = "failed"
    assert waiting(history_of(ledger))[CELL].trial == second


def test_a_damaged_checkpoint_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported(tmp_path, study_records()) == []
    assert f"Warning: no merged weights of {CELL}: {tmp_path}/ray/one/a" in capsys.readouterr().out


def confirmed(folder: Path, method: str = "inflora") -> list[Record]:
    """The records of a cell whose one confirmation has left its checkpoint."""
    plan = small_plan(grid={"method.name": [method]}, fixed={"data.tasks": 2}, seeds=[3])
    (cell,) = plan.cells
    trial = cell.trial("confirm", {}, 3)
    trainer = SequentialTrainer(TrialConfig.from_params(trial.params))
    trainer.train_task()
    trainer.train_task()
    trainer.save(folder / "ray" / "one")
    size = (folder / "ray" / "one" / "trainer.pt").stat().st_size
    started, ended = records_of(trial)
    return timed(
        [
            records.study("small", "?", facts(plan.spec.to_plain())),
            records.cell(cell.id, cell.key, cell.fixed, {}, 2, 2, [3]),
            records.winner(cell.id, "x", {}, None, "val/accuracy", {}),
            started,
            records.checkpoint(trial.id, 2, "ray/one", {"trainer.pt": size}),
            ended,
        ]
    )


@pytest.mark.process
def test_weights_are_made_and_recorded(tmp_path: Path) -> None:
    ledger = confirmed(tmp_path)
    (record,) = exported(tmp_path, ledger)
    folder = tmp_path / record["folder"]
    assert folder.parent == tmp_path / "models"
    assert {path.name for path in folder.iterdir()} == {*MODEL_FILES} - {"prompts.py"}
    weights = (folder / "model.safetensors").read_bytes()
    assert record["sha256"] == hashlib.sha256(weights).hexdigest()
    assert record["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert json.loads((folder / "model.json").read_text())["tasks"] == 2
    assert exported(tmp_path, [*ledger, record]) == []


@pytest.mark.process
def test_what_cannot_be_exported_is_said_and_the_study_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = confirmed(tmp_path, "sequential")
    path = tmp_path / "ray" / "one" / "trainer.pt"
    # A zip file with nothing in it, which is whole and no checkpoint.
    path.write_bytes(b"PK\x05\x06" + bytes(18))
    ledger[-2]["files"] = {"trainer.pt": path.stat().st_size}
    assert exported(tmp_path, ledger) == []
    out = capsys.readouterr().out
    assert "Warning: no merged weights of method.name=sequential: UnpicklingError:" in out


@pytest.mark.process
def test_a_study_that_is_stopped_ends_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_export, "own_command", lambda module, arguments: ["sleep", "60"])
    monkeypatch.setattr(model_export, "broken", lambda folder, checkpoint: None)
    assert exported(tmp_path, study_records(), stopped=True) == []
