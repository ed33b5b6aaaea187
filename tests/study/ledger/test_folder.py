"""The folder of a study: how it is found, who holds it, and what of it is sent to a server."""

import subprocess
import sys
from pathlib import Path

import pytest

from study.errors import MistakeError
from study.ledger import StudyFolder

PROJECT = Path(__file__).parents[3]


def test_a_study_is_found_by_folder_ledger_and_name(tmp_path: Path) -> None:
    for name in ("small-1", "small-2", "other-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ledger.jsonl").touch()
    newest = StudyFolder(tmp_path / "small-2")
    assert StudyFolder.find(str(newest.path), [], "--resume") == newest
    assert StudyFolder.find(str(newest.ledger), [], "--resume") == newest
    assert StudyFolder.find("small", [tmp_path / "none", tmp_path], "--resume") == newest
    with pytest.raises(ValueError, match=r"--resume must name the folder .* but got 'nothing'"):
        StudyFolder.find("nothing", [tmp_path], "--resume")


def test_two_drivers_on_one_study_are_refused(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert folder.is_held() is None
    code = (
        "import sys, time; from pathlib import Path; from study.ledger import StudyFolder\n"
        "with StudyFolder(Path(sys.argv[1])).held(): print('held', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert folder.is_held() is True
        with pytest.raises(MistakeError) as error, folder.held():
            raise AssertionError
        assert str(error.value).startswith(
            f"a study must be run by one process at a time, but {tmp_path} is by process "
            f"{other.pid} on host "
        )
        other.kill()
    # What a killed process leaves is a file, not a lock.
    assert (tmp_path / "lock").exists() and folder.is_held() is False
    with folder.held(), folder.held("mlflow.lock"):
        assert folder.is_held() is True
    (tmp_path / "file").touch()
    with pytest.raises(MistakeError, match="file/lock cannot be written: "):
        StudyFolder(tmp_path / "file").held().__enter__()


def test_only_a_models_own_files_are_its_files(tmp_path: Path) -> None:
    secret, own = tmp_path / "secret", tmp_path / "models" / "inflora"
    secret.mkdir()
    own.mkdir(parents=True)
    (secret / "model.json").write_text("{}")
    (own / "model.safetensors").write_bytes(b"weights")
    (own / "notes.txt").write_text("secret")
    (own / "load.py").symlink_to(secret / "model.json")
    folder = StudyFolder(tmp_path)
    assert folder.model_files("models/inflora") == [own / "model.safetensors"]
    (folder.models / "link").symlink_to(secret)
    for place in (str(secret), "secret", "models/../secret", "models/link", "models", "../x"):
        with pytest.raises(ValueError, match="a model's folder must lie below models/"):
            folder.model_files(place)
