"""Arguments on the way through `ray submit`, which joins them without quotes for a shell."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ray.autoscaler._private.command_runner import _with_interactive

from study import run
from study.shell_words import CHANGED, refuse_words
from study.submitted_line import LATER

INSTEAD = "ray job submit --address http://127.0.0.1:8265 -- python study/run.py"


def submitted(
    folder: Path, arguments: str, before: str = "", after: str = ""
) -> subprocess.CompletedProcess[str]:
    """What `ray submit` does with arguments: a copy of one file, and the shell that Ray asks for.

    `before` and `after` stand around the command, as with `ray submit --tmux` and `--stop`.
    """
    shutil.copy(run.__file__, folder / "run.py")
    (folder / "bin").mkdir(exist_ok=True)
    # Not the interpreter itself by another name: it would not find its environment.
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    (folder / ".bash_profile").write_text(f"export PATH={folder}/bin:$PATH\n", encoding="utf-8")
    line = " ".join(_with_interactive(f"{before}python ~/run.py {arguments}{after}"))
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    # As sshd does: a session of its own, and a shell that is given one text.
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("question=is it true", "unknown arguments: it true. Was it a part of a value?"),
        ("question=Is it true?", "but got 'true?' (with '?')"),
        ("name=a;echo RAN", "but got 'name=a;echo' (with ';')"),
        ("name=a|cat", "but got 'name=a|cat' (with '|')"),
        ("name=a>made", "but got 'name=a>made' (with '>')"),
        ("name=a</dev/null", "but got 'name=a</dev/null' (with '<')"),
        ("name=a$UNSET-b", "but got 'name=a$UNSET-b' (with '$')"),
        ("name=a`echo b`", "but got 'name=a`echo' (with '`')"),
        (r"name=a\b", r"but got 'name=a\\b' (with '\\')"),
        ('name="ab"', "but got 'name=\"ab\"' (with '\"')"),
        ("name='ab'", 'but got "name=\'ab\'" (with "\'")'),
        ("name=a*", "but got 'name=a*' (with '*')"),
        ("search={a,b}", "but got 'search={a,b}' (with '{' '}')"),
        ("name=a#b", "but got 'name=a#b' (with '#')"),
    ],
)
def test_a_value_that_the_shell_changes_is_refused(
    tmp_path: Path, value: str, message: str
) -> None:
    done = submitted(tmp_path, f"quickstart --validate --set {value}")
    said = done.stdout + done.stderr
    assert message in said and INSTEAD in said
    assert "quickstart" not in done.stdout
    # Of a pipeline, and before a `;`, the exit code of the study is not the shell's.
    assert done.returncode == 2 or set("|;") & set(value)


def test_what_comes_after_a_comment_never_runs(tmp_path: Path) -> None:
    done = submitted(tmp_path, "quickstart --validate --set question=one #two")
    # Ray's closing parenthesis belongs to the comment.
    assert done.returncode != 0 and "syntax error" in done.stderr


def test_a_study_in_the_background_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "made"
    done = submitted(tmp_path, f"quickstart --output {made} --set name=a&b")
    # Waited for by what it writes to: its shell has long ended.
    assert "'&'" in done.stderr and not made.exists()


def test_plain_values_pass(tmp_path: Path) -> None:
    plain = "--set data.tasks=[2,4] --set optim.lr=1e-3 --set name=a-b_c.1"
    done = submitted(tmp_path, f"quickstart --validate {plain}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("later", LATER)
def test_what_ray_itself_puts_behind_the_arguments_passes(tmp_path: Path, later: str) -> None:
    harmless = "ray() { :; }; sudo() { :; }; exec() { :; }; "
    done = submitted(tmp_path, "quickstart --validate", harmless, later)
    assert "quickstart" in done.stdout and "must" not in done.stderr, done.stderr


def test_a_shell_of_a_person_is_not_asked_for_more(tmp_path: Path) -> None:
    shutil.copy(run.__file__, tmp_path / "run.py")
    line = f"{shlex.quote(sys.executable)} run.py quickstart --validate --set name='ab'; true"
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        check=False,
    )
    assert done.stderr == "" and "quickstart" in done.stdout


def test_a_file_with_the_name_of_a_pattern_changes_nothing_in_silence(tmp_path: Path) -> None:
    (tmp_path / "data.tasks=2").touch()
    done = submitted(tmp_path, "quickstart --validate --set data.tasks=[2,4]")
    assert done.returncode == 2
    assert "but 'quickstart --validate --set data.tasks=[2,4]' became 'qui" in done.stderr


def test_a_study_file_of_the_project_is_found_from_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / "lrcs" / "mine").mkdir(parents=True)
    quickstart = Path(run.__file__).parent / "specs" / "quickstart.yaml"
    shutil.copy(quickstart, tmp_path / "lrcs" / "mine" / "one.yaml")
    done = submitted(tmp_path, "mine/one.yaml --validate")
    assert done.returncode == 0, done.stderr
    assert "lrcs/mine/one.yaml" in done.stdout


@pytest.mark.parametrize("sign", sorted(CHANGED | {" "}))
def test_every_sign_is_refused(sign: str) -> None:
    with pytest.raises(ValueError, match="must not have signs that a shell changes"):
        refuse_words(["--set", f"name=a{sign}b"], None, False)


def test_in_the_project_a_shell_is_the_persons_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["quickstart", "--validate", "--set", "question=Is it?"]) == 0
    assert run.main(["quickstart", "extra"]) == 2
    assert capsys.readouterr().err == "error: unknown arguments: extra. See --help.\n"
