"""The folder of a study: how it is found, who holds it, and what of it is sent to a server."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from study.errors import MistakeError
from study.ledger import StudyFolder, check_paths, own_path, refuse_planted
from tests.study.strangers import give_away, open_to_all

PROJECT = Path(__file__).parents[3]


def test_a_study_is_found_by_folder_ledger_and_name(tmp_path: Path) -> None:
    for name in ("small-1", "small-2", "other-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ledger.jsonl").touch()
    newest = StudyFolder(tmp_path / "small-2")
    assert StudyFolder.find(str(newest.path), [], "--resume") == newest
    assert StudyFolder.find(str(newest.ledger), [], "--resume") == newest
    roots = [tmp_path / "none", tmp_path]
    assert StudyFolder.find("small-1", roots, "--resume").path == tmp_path / "small-1"
    assert StudyFolder.find("other", roots, "--resume").path == tmp_path / "other-1"
    with pytest.raises(ValueError, match=r"--resume must name one study, but 'small' may be each"):
        StudyFolder.find("small", roots, "--resume")
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
        with pytest.raises(ValueError, match=r"must lie (below models/|in its own folder)"):
            folder.model_files(place)


def study_in(folder: Path, name: str) -> Path:
    """A folder with a ledger that begins with the study of that name."""
    folder.mkdir(parents=True)
    (folder / "ledger.jsonl").write_text(json.dumps({"kind": "study", "name": name}) + "\n")
    return folder


@pytest.mark.parametrize("other", ["s-b", "s_b", "s.b", "s2", "sandwich"])
def test_the_study_of_that_name_comes_before_those_that_only_begin_so(
    tmp_path: Path, other: str
) -> None:
    named = study_in(tmp_path / "s-20261129-070000", "s")
    study_in(tmp_path / f"{other}-20261129-080000", other)
    assert StudyFolder.find("s", [tmp_path], "--resume").path == named
    # Wherever it was written to.
    elsewhere = study_in(tmp_path / "anywhere", "t")
    assert StudyFolder.find("t", [tmp_path], "--resume").path == elsewhere
    again = study_in(tmp_path / "s-20261129-090000", "s")
    with pytest.raises(ValueError, match="give the folder") as error:
        StudyFolder.find("s", [tmp_path, tmp_path], "--resume")
    assert str(error.value).count("\n") == 2
    assert str(named) in str(error.value) and str(again) in str(error.value)


def test_a_folder_here_and_one_in_the_results_of_the_same_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study_in(tmp_path / "s", "s")
    assert StudyFolder.find("s", [Path("results")], "--resume").path == Path("s")
    study_in(tmp_path / "results" / "s", "s")
    with pytest.raises(ValueError, match="give the folder"):
        StudyFolder.find("s", [Path("results")], "--resume")
    for name in ("./s", "s/ledger.jsonl"):
        assert StudyFolder.find(name, [Path("results")], "--resume").path == Path("s")


def test_folders_of_one_moment_are_claimed_once_each(tmp_path: Path) -> None:
    place = tmp_path / "results" / "s-1"
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: StudyFolder.claimed(place).path, range(8)))
    assert len(set(claimed)) == 8 and all(path.is_dir() for path in claimed)
    (tmp_path / "results" / "t").write_text("a file in the way")
    assert StudyFolder.claimed(tmp_path / "results" / "t").path.name == "t-2"
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        StudyFolder.claimed(tmp_path / "file" / "s")


def test_a_folder_that_was_taken_meanwhile_is_refused(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    with folder.held_anew():
        folder.ledger.write_text("torn by a full disk")
    # What could not record anything leaves a folder that can be given again.
    with folder.held_anew():
        folder.ledger.write_text('{"kind": "study"}\n')
    with pytest.raises(MistakeError, match="--output must be a new or an empty folder"):
        folder.held_anew().__enter__()


OUTSIDE = ["../victim", "/etc", "ray/../../victim", "ray//x", "./ray/x", "", "ray/x/", "ray/\0"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="a path must lead downwards"):
        own_path(tmp_path, path)


def test_no_path_goes_through_a_link(tmp_path: Path) -> None:
    folder, victim = tmp_path / "study", tmp_path / "victim"
    (folder / "ray").mkdir(parents=True)
    (victim / "a").mkdir(parents=True)
    assert own_path(folder, "ray/a/b") == folder / "ray" / "a" / "b"
    (folder / "ray" / "a").symlink_to(victim / "a")
    with pytest.raises(ValueError, match="ray/a is a link"):
        own_path(folder, "ray/a/b")
    (folder / "models").symlink_to(victim)
    with pytest.raises(ValueError, match="models is a link"):
        check_paths(folder, [])
    # The folder itself may be one: it is the person who named it.
    (tmp_path / "link").symlink_to(folder)
    assert own_path(tmp_path / "link", "ray/c") == folder / "ray" / "c"


LINKS = ["lock", "ledger.jsonl", "ray.log", "mlflow.log", "mlflow.lock", "mlflow.db.lock"]


@pytest.mark.parametrize("name", LINKS)
def test_a_folder_with_a_link_that_a_study_would_write_through_is_not_held(
    tmp_path: Path, name: str
) -> None:
    (victim := tmp_path / "victim").write_text("my thesis")
    (folder := tmp_path / "study").mkdir()
    (folder / name).symlink_to(victim)
    with pytest.raises(MistakeError, match=f"{name} is a link"):
        StudyFolder(folder).held().__enter__()
    assert StudyFolder(folder).is_held() is None
    assert victim.read_text() == "my thesis"


@pytest.mark.parametrize(
    ("planted", "output"),
    [("link", "link"), ("link", "link/new"), ("dangling", "dangling"), ("theirs", "theirs")],
)
def test_nothing_is_written_where_somebody_else_leads_to(
    tmp_path: Path, planted: str, output: str
) -> None:
    shared = open_to_all(tmp_path / "shared")
    (tmp_path / "victim").mkdir()
    if planted == "theirs":
        (shared / planted).mkdir()
    else:
        (shared / planted).symlink_to(tmp_path / ("victim" if planted == "link" else "new"))
    # One's own leads where one wants it to.
    refuse_planted(shared / output)
    give_away(shared / planted)
    refuse_planted(shared / "new")
    refuse_planted(tmp_path / "victim")
    with pytest.raises(ValueError, match=f"--output must be .*{planted} is of user 65534"):
        refuse_planted(shared / output)
    shared.chmod(0o755)
    refuse_planted(shared / output)


def test_a_folder_with_anything_else_is_used(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for name in ("lock", "ray.log", "mlflow.db", "ledger.jsonl"):
        (tmp_path / name).touch()
    assert folder.is_unused()
    (tmp_path / "thesis.tex").touch()
    assert not folder.is_unused()
