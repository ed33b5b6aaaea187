"""The command line: mistakes, what needs no trial, and every way to start it."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study import run
from study.ledger import read_ledger
from tests.study.commands.conftest import Command, WriteStudy
from tests.study.commands.test_run import STUDY
from tests.study.small_study import FIXED
from tests.study.strangers import give_away, open_to_all

SCRIPT = Path(run.__file__)


@pytest.fixture
def study_file(write_study: WriteStudy) -> Path:
    return write_study(STUDY)


def test_a_mistake_is_one_message_and_exit_code_2(
    study_file: Path, output: Path, command: Command
) -> None:
    mistake = ["--set", "method.name=inflora", "--set", "method.rank=17"]
    code, out, err = command(study_file, *mistake, "--output", output)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: .*method.rank must be in \[1, 16\], but got 17.*\n", err)
    assert not output.exists()


def test_several_mistakes_are_told_a_line_each(study_file: Path, command: Command) -> None:
    changes = ["--set", "trials=0", "--set", "optim.lr=-1", "--set", "sampler=tpee"]
    code, out, err = command(study_file, "--validate", *changes)
    assert (code, out, err.splitlines()[0]) == (2, "", f"error: {study_file}: 3 mistakes:")
    starts = ["sampler must be one of", "trials must be a whole", "every cell: optim.lr must be"]
    for line, start in zip(err.splitlines()[1:], starts, strict=True):
        assert line.startswith(f"  {start}")


def test_a_file_that_cannot_be_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    code, _, err = command("nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml: there is no such file; give the path of a study file or a name" in err

    def exists(path: Path) -> bool:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "exists", exists)
    expected = "error: some.yaml: cannot be read: Permission denied.\n"
    assert command("some.yaml") == (2, "", expected)


def test_a_file_called_as_a_study_that_comes_along_is_refused(
    study_file: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study_file.rename(tmp_path / "quickstart")
    code, _, err = command("quickstart", "--validate")
    assert code == 2 and f"or the file {tmp_path / 'quickstart'}; give the path of one" in err
    assert command("./quickstart", "--validate").code == 0


def test_a_folder_in_use_is_refused(study_file: Path, command: Command) -> None:
    code, _, err = command(study_file, "--output", study_file.parent)
    assert (code, "--output must be a new or an empty folder" in err) == (2, True)
    code, _, err = command(study_file, "--output", study_file)
    assert (code, "cannot be used" in err) == (2, True)


@pytest.mark.parametrize("by_default", [True, False])
def test_a_folder_that_somebody_else_leads_to_is_refused(
    tmp_path: Path,
    study_file: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    by_default: bool,
) -> None:
    monkeypatch.chdir(open_to_all(tmp_path / "shared"))
    (tmp_path / "victim").mkdir()
    Path("results").symlink_to(tmp_path / "victim")
    give_away(Path("results"))
    code, _, err = command(study_file, *([] if by_default else ["--output", "results/mine"]))
    assert (code, "--output must be a folder of yours" in err) == (2, True)
    assert not any((tmp_path / "victim").iterdir())


def test_validate_describes_the_plan(study_file: Path, command: Command) -> None:
    code, out, _ = command(study_file, "--validate", "--set", "trials=5")
    assert code == 0
    assert "4 cells, up to 20 search trials and 8 confirmation trials" in out
    assert "method.name=sequential,data.tasks=2: searches optim.lr" in out


@pytest.mark.parametrize("method", ["l2p", "dual_prompt", "coda_prompt", "hide_prompt"])
@pytest.mark.parametrize("network", ["test_swin", "test_convnext"])
def test_validate_refuses_prompts_in_networks_without_places_by_name(
    write_study: WriteStudy, command: Command, method: str, network: str
) -> None:
    fixed = {**FIXED, "data.tasks": 2, "backbone.name": network}
    plain = {**STUDY, "grid": {"method.name": [method]}, "fixed": fixed, "search": "none"}
    code, out, err = command(write_study(plain), "--validate")
    assert (code, out) == (2, "")
    message = rf"plain Vision Transformer of timm for method {method}: .* {network} does not have"
    assert re.search(message, err)


def test_list_shows_every_study_with_its_question(command: Command) -> None:
    code, out, _ = command("--list")
    assert code == 0 and "quickstart: " in out and "?" in out


def test_unknown_arguments_are_named(command: Command) -> None:
    expected = "error: unknown arguments: extra. See --help.\n"
    assert command("quickstart", "extra") == (2, "", expected)


@pytest.mark.process
@pytest.mark.parametrize("how", ["module", "copy"])
def test_it_runs_in_every_way(how: str, tmp_path: Path) -> None:
    copy = Path(shutil.copy(SCRIPT, tmp_path / "run.py"))
    start = {"module": ["-m", "study.run"], "copy": [str(copy)]}[how]
    # A file that would be found first if the script's folder stayed on the path.
    (tmp_path / "yaml.py").write_text("raise RuntimeError", encoding="utf-8")
    where = SCRIPT.parents[1] if how == "module" else tmp_path
    command = [sys.executable, *start, "quickstart", "--validate"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=where, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is valid" in done.stdout


@pytest.mark.process
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_it_runs_with_closed_streams(closed: str) -> None:
    line = f'exec "$0" "$@" {closed}'
    command = ["sh", "-c", line, sys.executable, str(SCRIPT), "quickstart", "--validate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def brought(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `ray submit` runs: a copy of one file, in the head's home."""
    shutil.copy(SCRIPT, folder / "run.py")
    command, home = [sys.executable, "run.py", *arguments], {**os.environ, "HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=home)


@pytest.mark.process
def test_a_value_that_a_shell_has_split_is_refused(tmp_path: Path) -> None:
    done = brought(tmp_path, "quickstart", "--validate", "--set", "question=is", "it", "true")
    assert done.returncode == 2
    assert "unknown arguments: it true. Was it a part of a value?" in done.stderr
    assert "ray job submit" in done.stderr


@pytest.mark.process
def test_a_study_file_of_the_project_is_found_from_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / "lrcs" / "mine").mkdir(parents=True)
    shutil.copy(SCRIPT.parent / "specs" / "quickstart.yaml", tmp_path / "lrcs/mine/own.yaml")
    done = brought(tmp_path, "mine/own.yaml", "--validate")
    assert done.returncode == 0, done.stderr
    assert "lrcs/mine/own.yaml" in done.stdout


NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")


@pytest.mark.process
def test_a_user_whom_nobody_knows_gets_a_home(study_file: Path) -> None:
    code = (
        "import os, pwd, sys\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "from study import run\n"
        "code = run.main(sys.argv[1:])\n"
        "import getpass, pathlib\n"
        "print(code, pathlib.Path.home().is_dir(), bool(getpass.getuser()), pathlib.Path.home())\n"
    )
    environment = {key: value for key, value in os.environ.items() if key not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code, study_file, "--validate"],
        env=environment,
        capture_output=True,
        text=True,
    )
    *_, last = done.stdout.splitlines() or [done.stderr]
    assert last.startswith("0 True True "), last
    assert not Path(last.split()[-1]).exists()


@pytest.mark.nightly
@pytest.mark.process
def test_a_user_whom_the_system_does_not_know_trains(study_file: Path, output: Path) -> None:
    user = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    if shutil.which("unshare") is None or subprocess.run([*user, "true"], check=False).returncode:
        pytest.skip("for want of namespaces of users (unshare)")
    narrowed = ["--set", "method.name=sequential", "--set", "data.tasks=2"]
    done = subprocess.run(
        [*user, sys.executable, SCRIPT, study_file, "--once", *narrowed, "--output", output],
        env={key: value for key, value in os.environ.items() if key not in NAMES},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # With MLflow.
    assert "Warning" not in done.stdout and "MLflow: python " in done.stdout
    assert read_ledger(output / "ledger.jsonl")[-1]["status"] == "completed"
