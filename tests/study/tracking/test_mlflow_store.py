"""What MLflow holds of a study once its ledger was written."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.ledger import Record, StudyFolder, records
from study.tracking.mlflow_store import MLflowStore
from study.tracking.tracker import default_uri
from study.tracking.writer import replay
from tests.study.histories import ledger_of
from tests.study.report import engine_ledgers
from tests.study.tracking.conftest import copy_database
from tests.study.tracking.fake_store import writer_of
from tests.study.tracking.mlflow_server import Server
from tests.study.tracking.tracked import CELL, SPLIT, study_records

CELL_RUN, MODEL = "inflora · 3 tasks", "quick.inflora.3-tasks"
TRIAL = f"seed 5 (confirm) · {CELL_RUN}"


def written(ledger: list[Record], folder: StudyFolder, uri: str | None = None) -> Any:
    """A client of MLflow, after a ledger was written anew and then into it."""
    uri = uri or default_uri(folder)
    folder.ledger.unlink(missing_ok=True)
    ledger_of(ledger, folder.path)
    assert replay(folder, uri) == (len(ledger), None)
    import mlflow

    return mlflow.MlflowClient(uri, uri)


def with_model(study: StudyFolder) -> list[Record]:
    """The small study, and the merged weights of its first confirmation."""
    ledger = study_records()
    folder = study.models / "inflora"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    trial = next(record["trial"] for record in ledger if record.get("role") == "confirm")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    model = records.model(CELL, trial, "models/inflora", 7, sha256)
    ledger.insert(-1, {**model, "time": ledger[-1]["time"]})
    return ledger


@pytest.mark.nightly
@pytest.mark.process
def test_artifacts_and_models_go_through_the_server(server: Server, tmp_path: Path) -> None:
    server.start()
    output = StudyFolder(tmp_path / "out")
    for _ in range(2):
        client = written(with_model(output), output, server.uri)
    places = {run.info.artifact_uri.partition(":")[0] for run in runs_of(client).values()}
    assert places == {"mlflow-artifacts"}
    assert list((tmp_path / "kept").rglob("accuracy_matrix.png"))
    assert not output.artifacts.exists()
    (version,) = client.search_model_versions()
    (kept,) = (tmp_path / "kept").rglob("model.safetensors")
    assert version.source.endswith("/artifacts/model") and kept.read_bytes() == b"weights"


@pytest.fixture(scope="module")
def client(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A client of a store into which one study was written, twice."""
    output = StudyFolder(tmp_path_factory.mktemp("tracked"))
    copy_database(empty_database, output)
    written(with_model(output), output)
    return written(with_model(output), output)


@pytest.fixture(scope="module")
def runs(client: Any) -> dict[str, Any]:
    """The runs of that study by their names."""
    return runs_of(client)


def runs_of(client: Any, experiment: str = "quick") -> dict[str, Any]:
    """The runs of an experiment by their names, each of which is there once."""
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


def files_of(client: Any, run: Any) -> set[str]:
    """The names of the files that are attached to a run."""
    return {file.path for file in client.list_artifacts(run.info.run_id)}


@pytest.mark.slow
def test_runs_are_nested_and_each_task_is_a_step_once(client: Any, runs: dict[str, Any]) -> None:
    study, cell, trial = runs["quick · 2026-11-21 12:00 UTC"], runs[CELL_RUN], runs[TRIAL]
    assert len(runs) == 6
    assert cell.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert trial.data.tags["mlflow.parentRunId"] == cell.info.run_id
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert trial.info.end_time - trial.info.start_time == 5000
    for run in (trial, cell):
        history = client.get_metric_history(run.info.run_id, "test/accuracy")
        assert [point.step for point in history] == [1, 2, 3]
    assert cell.data.metrics["best/val/accuracy"] == 0.7
    assert files_of(client, study) == {"study.yaml"}
    tags = client.get_experiment(study.info.experiment_id).tags
    view = json.loads(tags["mlflow.sharedViewState.study"])
    # Charts of what each cell's run has, in a section of theirs.
    assert {chart["metricKey"] for chart in view["compareRunCharts"]} & set(cell.data.metrics)
    own = {chart["metricSectionId"] for chart in view["compareRunCharts"]}
    assert own == {section["uuid"] for section in view["compareRunSections"]}


@pytest.mark.slow
def test_artifacts(client: Any, runs: dict[str, Any], tmp_path: Path) -> None:
    run = runs["seed 6 (confirm) · inflora · 3 tasks"]
    names = {"accuracy_matrix.csv", "accuracy_matrix.png", "config.yaml", "free_dimensions.png"}
    assert files_of(client, run) == names
    client.download_artifacts(run.info.run_id, "", str(tmp_path))
    assert len((tmp_path / "accuracy_matrix.csv").read_text().splitlines()) == 4
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["method.rank"] == 4


@pytest.mark.slow
def test_a_trial_says_what_it_ran_with(runs: dict[str, Any]) -> None:
    run = runs[TRIAL]
    tags = run.data.tags
    assert run.data.params["backbone.adapt"] == "null"
    assert (tags["cell"], tags["host"], tags["device"]) == (CELL, "worker", "NVIDIA H100")
    assert (tags["protocol"], tags["preset"], tags["commit"]) == ("whole_stream", "paper", "abc")
    assert (tags["split_sha256"], tags["versions"]) == (SPLIT, "torch 2.13.0")
    assert (tags["checkpoint"], tags["checkpoint bytes"]) == ("ray/one", "12")
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("icons", SPLIT[:36])
    assert json.loads(data.dataset.profile) == {"classes": 6, "train": 60, "test": 20}
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "training, test"}


@pytest.mark.slow
def test_the_winner_is_registered_once_with_its_run(client: Any, runs: dict[str, Any]) -> None:
    run = runs[TRIAL].info.run_id
    (version,) = client.search_model_versions()
    assert (version.name, version.run_id, version.tags["seed"]) == (MODEL, run, "5")
    assert client.get_model_version_by_alias(MODEL, "confirmed").version == version.version
    (file,) = client.list_artifacts(run, "model")
    assert file.path == "model/model.safetensors"


@pytest.mark.usefixtures("database")
@pytest.mark.slow
def test_the_picture_of_a_front_is_with_its_cell(tmp_path: Path) -> None:
    client = written(engine_ledgers.several_objectives(), StudyFolder(tmp_path))
    cell = runs_of(client, "engine")["inflora · 10 tasks"]
    assert files_of(client, cell) == {"front.png"}
    assert json.loads(cell.data.tags["front"])[2]["method.rank"] == 2
    picture = Path(client.download_artifacts(cell.info.run_id, "front.png", str(tmp_path)))
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("database")
@pytest.mark.slow
def test_an_alias_whose_setting_failed_is_set_by_a_replay_and_a_later_study_s_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(tmp_path)
    uri = default_uri(folder)
    store = MLflowStore(uri, folder)
    assert store.answers()

    def refuse(*_: Any) -> None:
        raise store.errors[0]("refused")

    monkeypatch.setattr(store._client, "set_registered_model_alias", refuse)
    writer = writer_of(ledger_of(with_model(folder), tmp_path), store)
    assert writer.catch_up() and writer.refused == 1
    assert store._client.get_registered_model(MODEL).aliases == {}
    monkeypatch.undo()
    assert replay(folder, uri)[1] is None
    assert store._client.get_registered_model(MODEL).aliases == {"confirmed": 1}
    other = StudyFolder(tmp_path / "later")
    later = [{**record, "time": record["time"] + 86400} for record in with_model(other)]
    written(later, other, uri)
    assert replay(folder, uri)[1] is None
    assert store._client.get_registered_model(MODEL).aliases == {"confirmed": 2}
    versions = store._client.search_model_versions()
    assert sorted(int(model.version) for model in versions) == [1, 2]
    assert len({model.run_id for model in versions}) == 2


@pytest.mark.usefixtures("database")
@pytest.mark.slow
def test_only_a_model_s_own_files_are_sent(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    ledger = with_model(folder)
    ledger[-2]["folder"] = str(tmp_path)
    ledger_of(ledger, tmp_path)
    problem = replay(folder, default_uri(folder))[1]
    assert problem is not None and "must have as 'folder' a folder below 'models/'" in problem
    assert not list(folder.artifacts.rglob("model*"))
