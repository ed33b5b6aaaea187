"""Arguments on the way through `ray submit`, which joins them without quotes for a shell."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study import run
from study.shell_words import CHANGED, refuse_words

INSTEAD = "ray job submit --address http://127.0.0.1:8265 -- python study/run.py"


def submitted(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `ray submit` does: a copy of one file, and a login shell."""
    copy = shutil.copy(run.__file__, folder / "run.py")
    line = " ".join([sys.executable, str(copy), *arguments])
    command = ["bash", "--login", "-c", line]
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("question=is it true", "unknown arguments: it true. Was it a part of a value?"),
        ("question=Is it true?", "but got 'true?' (with '?')"),
        ("question=is it", "it: there is no such file"),
        ('name="a;b"', "but got 'name=a;b' (with ';')"),
        ("name=a*", "but got 'name=a*' (with '*')"),
        ("search={inflora:all}", "but got 'search={inflora:all}' (with '{' '}')"),
    ],
)
def test_a_value_that_the_shell_changes_is_refused(
    tmp_path: Path, value: str, message: str
) -> None:
    given = () if "no such file" in message else ("quickstart",)
    done = submitted(tmp_path, *given, "--validate", "--set", value)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert INSTEAD in done.stderr


def test_plain_values_pass(tmp_path: Path) -> None:
    plain = ["--set", "data.tasks=[2,4]", "--set", "optim.lr=1e-3", "--set", "name=a-b_c.1"]
    done = submitted(tmp_path, "quickstart", "--validate", *plain)
    assert done.returncode == 0, done.stderr


def test_a_study_file_of_the_project_is_found_from_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / "lrcs" / "mine").mkdir(parents=True)
    quickstart = Path(run.__file__).parent / "specs" / "quickstart.yaml"
    shutil.copy(quickstart, tmp_path / "lrcs" / "mine" / "one.yaml")
    done = submitted(tmp_path, "mine/one.yaml", "--validate")
    assert done.returncode == 0, done.stderr
    assert "lrcs/mine/one.yaml" in done.stdout


@pytest.mark.parametrize("sign", sorted(CHANGED))
def test_every_sign_is_refused(sign: str) -> None:
    with pytest.raises(ValueError, match="must not have signs that a shell changes"):
        refuse_words(["--set", f"name=a{sign}b"])


def test_in_the_project_a_shell_is_the_persons_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["quickstart", "--validate", "--set", "question=Is it?"]) == 0
    assert run.main(["quickstart", "extra"]) == 2
    assert capsys.readouterr().err == "error: unknown arguments: extra. See --help.\n"
