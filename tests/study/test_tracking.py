"""What MLflow holds of a study once its ledger was written."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.ledger import Ledger, Record
from study.ledger_writer import LedgerWriter, replay
from study.mlflow_links import browse_command, default_uri
from study.model_export import model_files
from study.run_words import model_name
from study.tracking import MLflowStore
from tests.study.analysis import engine_ledgers
from tests.study.mlflow_server import Server
from tests.study.tracked import CELL, SPLIT, study_records


def test_what_drives_a_study_does_not_import_mlflow_or_matplotlib() -> None:
    code = (
        "import sys, study.conduct, study.once, study.ledger_writer\n"
        "sys.exit(bool({'mlflow', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def write(records: list[Record], output: Path, uri: str) -> None:
    """Writes a ledger anew, and then to MLflow."""
    (output / "ledger.jsonl").unlink(missing_ok=True)
    ledger = Ledger(output / "ledger.jsonl")
    for one in records:
        ledger.append(one)
    ledger.close()
    assert replay(output, uri) == (len(records), None)


def with_model(output: Path) -> list[Record]:
    """The small study, and the merged weights of its first confirmation."""
    records = study_records()
    folder = output / "models" / "inflora"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    trial = next(one["trial"] for one in records if one.get("role") == "confirm")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    model = {"kind": "model", "cell": CELL, "trial": trial, "folder": "models/inflora"}
    last = records[-1]
    records.insert(-1, {**model, "bytes": 7, "sha256": sha256, "time": last["time"]})
    return records


@pytest.mark.slow
def test_artifacts_and_models_go_through_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        output = tmp_path / "out"
        output.mkdir()
        for _ in range(2):
            write(with_model(output), output, server.uri)
        import mlflow

        client = mlflow.MlflowClient(server.uri, server.uri)
        runs = runs_of(client)
        places = {run.info.artifact_uri.partition(":")[0] for run in runs.values()}
        assert places == {"mlflow-artifacts"}
        assert list((tmp_path / "kept").rglob("accuracy_matrix.png"))
        assert not (output / "mlflow-artifacts").exists()
        (version,) = client.search_model_versions()
        (kept,) = (tmp_path / "kept").rglob("model.safetensors")
        assert version.source.endswith("/artifacts/model") and kept.read_bytes() == b"weights"
    finally:
        server.kill()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a store into which one study was written, twice."""
    output = tmp_path_factory.mktemp("tracked")
    uri = default_uri(output)
    for _ in range(2):
        write(with_model(output), output, uri)
    import mlflow

    yield mlflow.MlflowClient(uri)
    assert "/#/experiments/1/runs" in browse_command(output)


def runs_of(client: Any) -> dict[str, Any]:
    experiment = client.get_experiment_by_name("quick").experiment_id
    runs = client.search_runs([experiment])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


@pytest.mark.slow
def test_runs_are_nested_and_written_once(client: Any) -> None:
    runs = runs_of(client)
    study, cell = runs["quick · 2026-11-21 12:00 UTC"], runs["inflora · 3 tasks"]
    trial = runs["seed 5 (confirm) · inflora · 3 tasks"]
    assert len(runs) == 6
    assert cell.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert trial.data.tags["mlflow.parentRunId"] == cell.info.run_id
    assert trial.data.params["backbone.adapt"] == "null"
    assert trial.data.tags["cell"] == CELL
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert trial.info.end_time - trial.info.start_time == 5000


@pytest.mark.slow
def test_metrics_are_stepped_by_task_and_written_once(client: Any) -> None:
    runs = runs_of(client)
    for name in ("seed 5 (confirm) · inflora · 3 tasks", "inflora · 3 tasks"):
        history = client.get_metric_history(runs[name].info.run_id, "test/accuracy")
        assert [point.step for point in history] == [1, 2, 3]
    assert runs["inflora · 3 tasks"].data.metrics["best/val/accuracy"] == 0.7


@pytest.mark.slow
def test_artifacts(client: Any, tmp_path: Path) -> None:
    runs = runs_of(client)
    run = runs["seed 6 (confirm) · inflora · 3 tasks"].info.run_id
    assert {file.path for file in client.list_artifacts(run)} == {
        "accuracy_matrix.csv",
        "accuracy_matrix.png",
        "config.yaml",
        "free_dimensions.png",
    }
    table = Path(client.download_artifacts(run, "accuracy_matrix.csv", str(tmp_path)))
    assert len(table.read_text().splitlines()) == 4
    config = Path(client.download_artifacts(run, "config.yaml", str(tmp_path)))
    assert yaml.safe_load(config.read_text())["method.rank"] == 4
    study = runs["quick · 2026-11-21 12:00 UTC"].info.run_id
    assert [file.path for file in client.list_artifacts(study)] == ["study.yaml"]


@pytest.mark.slow
def test_a_later_session_goes_on_in_the_same_runs(tmp_path: Path) -> None:
    """Each session has a writer of its own, which reads everything from the beginning."""
    records = engine_ledgers.resumed()
    place = next(i for i, one in enumerate(records) if one["kind"] == "resumed")
    uri = default_uri(tmp_path)
    for known in (records[:place], records):
        write(known, tmp_path, uri)
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("engine").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert len(runs) == len(client.search_runs([experiment])) == 6
    study = runs["engine · 1970-01-12 13:46 UTC"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert study.data.tags["commit"] == "def"
    files = {file.path for file in client.list_artifacts(study.info.run_id)}
    assert files == {"study.yaml", "study_2.yaml"}
    search = runs["search 01 · inflora · 10 tasks"].info.run_id
    history = client.get_metric_history(search, "val/accuracy")
    assert [point.step for point in history] == list(range(1, 11))


@pytest.mark.slow
def test_the_picture_of_a_front_is_with_its_cell(tmp_path: Path) -> None:
    uri = default_uri(tmp_path)
    write(engine_ledgers.several_objectives(), tmp_path, uri)
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("engine").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    cell = runs["inflora · 10 tasks"]
    assert [file.path for file in client.list_artifacts(cell.info.run_id)] == ["front.png"]
    assert json.loads(cell.data.tags["front"])[2]["method.rank"] == 2
    picture = Path(client.download_artifacts(cell.info.run_id, "front.png", str(tmp_path)))
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_trial_says_what_it_ran_with(client: Any) -> None:
    run = runs_of(client)["seed 5 (confirm) · inflora · 3 tasks"]
    tags = run.data.tags
    assert (tags["host"], tags["device"]) == ("worker", "NVIDIA H100")
    assert (tags["protocol"], tags["preset"], tags["commit"]) == ("whole_stream", "paper", "abc")
    assert tags["split_sha256"] == SPLIT
    assert tags["versions"] == "torch 2.13.0"
    assert (tags["checkpoint"], tags["checkpoint bytes"]) == ("ray/one", "12")
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("icons", SPLIT[:36])
    assert json.loads(data.dataset.profile) == {"classes": 6, "train": 60, "test": 20}
    assert {one.key: one.value for one in data.tags} == {"mlflow.data.context": "training, test"}


@pytest.mark.slow
def test_the_winner_is_registered_once_with_its_run(client: Any) -> None:
    run = runs_of(client)["seed 5 (confirm) · inflora · 3 tasks"].info
    name = model_name("quick", "inflora · 3 tasks")
    assert name == "quick.inflora.3-tasks"
    (version,) = client.search_model_versions()
    assert (version.name, version.run_id) == (name, run.run_id)
    assert client.get_model_version_by_alias(name, "confirmed").version == version.version
    assert version.tags["seed"] == "5"
    assert [file.path for file in client.list_artifacts(run.run_id, "model")] == [
        "model/model.safetensors"
    ]


@pytest.mark.slow
def test_another_study_of_the_same_name_is_another_version(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/shared.db"
    for days in range(2):
        output = tmp_path / str(days)
        output.mkdir()
        late = [{**one, "time": one["time"] + 86400 * days} for one in with_model(output)]
        write(late, output, uri)
    import mlflow

    client = mlflow.MlflowClient(uri, uri)
    versions = client.search_model_versions()
    assert sorted(int(one.version) for one in versions) == [1, 2]
    newest = client.get_model_version_by_alias("quick.inflora.3-tasks", "confirmed")
    assert int(newest.version) == 2
    assert len({one.run_id for one in versions}) == 2


@pytest.mark.slow
def test_an_alias_whose_setting_failed_is_set_by_a_replay_and_a_later_study_s_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/shared.db"
    store = MLflowStore(uri, tmp_path)
    assert store.answers()

    def refuse(*_: Any) -> None:
        raise store.errors[0]("refused")

    monkeypatch.setattr(store._client, "set_registered_model_alias", refuse)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for one in with_model(tmp_path):
        ledger.append(one)
    ledger.close()
    writer = LedgerWriter(ledger.path, store, lambda seconds: None)
    assert writer.catch_up() and writer.failure is not None
    name = "quick.inflora.3-tasks"
    assert store._client.get_registered_model(name).aliases == {}
    monkeypatch.undo()
    assert replay(tmp_path, uri)[1] is None
    assert store._client.get_registered_model(name).aliases == {"confirmed": 1}
    later = tmp_path / "later"
    later.mkdir()
    write([{**one, "time": one["time"] + 86400} for one in with_model(later)], later, uri)
    assert replay(tmp_path, uri)[1] is None
    assert store._client.get_registered_model(name).aliases == {"confirmed": 2}


@pytest.mark.slow
def test_only_a_model_s_own_files_are_sent(tmp_path: Path) -> None:
    records = with_model(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "model.json").write_text("{}")
    own = tmp_path / "models" / "inflora"
    (own / "notes.txt").write_text("secret")
    (own / "load.py").symlink_to(secret / "model.json")
    assert model_files(tmp_path, "models/inflora") == [own / "model.safetensors"]
    (tmp_path / "models" / "link").symlink_to(secret)
    for folder in (str(secret), "secret", "models/../secret", "models/link", "models", "../x"):
        with pytest.raises(ValueError, match="a model's folder must lie below models/"):
            model_files(tmp_path, folder)
    for one in records:
        if one["kind"] == "model":
            one["folder"] = str(secret)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for one in records:
        ledger.append(one)
    ledger.close()
    problem = replay(tmp_path, default_uri(tmp_path))[1]
    assert problem is not None and "a model's folder must lie below models/" in problem
    assert not list((tmp_path / "mlflow-artifacts").rglob("model*"))
