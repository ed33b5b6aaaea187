"""A study that goes on without its terminal."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from study import detached, run
from study.detached import CONSOLE, EXIT_CODE, attach, find_console
from tests.study.test_run import STUDY

SCRIPT = Path(run.__file__)


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., list[str]]:
    """A command line of a small study on made-up data, without Ray being reached soon."""
    import yaml

    (tmp_path / "small.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return lambda *more: [sys.executable, str(SCRIPT), *more]


def start(folder: Path, seconds: float, code: int) -> subprocess.Popen[bytes]:
    """A process that holds the console of a folder as a detached study does."""
    program = (
        "import sys, time, pathlib\n"
        "print('first', flush=True)\n"
        f"time.sleep({seconds})\n"
        "print('last', flush=True)\n"
        f"pathlib.Path({str(folder / EXIT_CODE)!r}).write_text('{code}')\n"
    )
    with (folder / CONSOLE).open("ab") as console:
        assert not detached._locked(console.fileno())
        return subprocess.Popen([sys.executable, "-c", program], stdout=console)


def test_attach_shows_everything_and_ends_with_the_exit_code(tmp_path: Path) -> None:
    process = start(tmp_path, 1.0, 143)
    shown: list[str] = []
    assert attach(tmp_path, shown.append) == 143
    assert "".join(shown) == "first\nlast\n"
    process.wait()
    # A study that has ended is shown as well.
    assert attach(tmp_path, shown.append) == 143
    assert "".join(shown) == "first\nlast\n" * 2


def test_a_study_that_was_killed_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(tmp_path, 60, 0)
    process.kill()
    process.wait()
    assert attach(tmp_path, lambda text: None) == 1
    assert capsys.readouterr().err == (
        "error: the study was killed, and has left no exit code. Go on with: run.py --resume "
        f"{tmp_path.name}\n"
    )


def test_ctrl_c_leaves_the_study_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(tmp_path, 60, 0)

    def write(text: str) -> None:
        raise KeyboardInterrupt

    assert attach(tmp_path, write) == 130
    assert "The study goes on. Show it again: run.py --attach" in capsys.readouterr().out
    assert process.poll() is None
    process.kill()
    process.wait()


def test_find_console_takes_the_newest_that_begins_so(tmp_path: Path) -> None:
    for at, name in enumerate(("small-1", "small-2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / CONSOLE).touch()
        os.utime(tmp_path / name / CONSOLE, (at, at))
    assert find_console("small", [tmp_path]) == tmp_path / "small-2"
    assert find_console(str(tmp_path / "small-1"), []) == tmp_path / "small-1"
    with pytest.raises(ValueError, match="--attach must name the folder of a study that was star"):
        find_console("other", [tmp_path])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detach", "--plan"], "--plan must be given without --detach"),
        (["--detach", "--attach", "a"], "--attach must be given without --detach"),
        (["quickstart", "--attach", "a"], "--attach must be given without a study file"),
        (["--attach", "nothing"], "--attach must name the folder of a study"),
    ],
)
def test_options_that_mean_nothing_together(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_ray_job_needs_no_detaching(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert run.main(["quickstart", "--detach"]) == 2
    assert "`ray job submit --no-wait` leaves" in capsys.readouterr().err


def test_a_mistake_that_shows_at_once_is_told_at_once(
    tmp_path: Path, command: Callable[..., list[str]]
) -> None:
    arguments = [str(tmp_path / "small.yaml"), "--detach", "--set", "data.name=npz:nothing"]
    more = ["--set", "data.classes=null", "--output", str(tmp_path / "out")]
    environment = {**os.environ, "LRCS_DATA_ROOT": str(tmp_path)}
    done = subprocess.run(
        command(*arguments, *more), capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode == 0:  # on a machine that was slow to say so
        done = subprocess.run(
            command("--attach", str(tmp_path / "out")), capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert "the files of npz:nothing must lie below" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_study_survives_its_terminal_and_is_ended_by_a_signal(
    tmp_path: Path, command: Callable[..., list[str]]
) -> None:
    output = tmp_path / "out"
    slow = ["--set", "optim.epochs=500", "--output", str(output)]
    line = command(str(tmp_path / "small.yaml"), "--detach", *slow)
    done = subprocess.run(line, capture_output=True, text=True, check=False, start_new_session=True)
    assert done.returncode == 0, done.stderr
    assert f"Follow it: run.py --attach {output.name}" in done.stdout
    pid = int(done.stdout.partition("process ")[2].split()[0])
    assert os.getsid(pid) == pid
    again = subprocess.run(
        command("--resume", str(output), "--detach"), capture_output=True, text=True, check=False
    )
    ledger = output / "ledger.jsonl"
    while not ledger.exists() or '"kind": "trial"' not in ledger.read_text():
        os.kill(pid, signal.SIGHUP)  # what the end of a connection sends
        time.sleep(0.5)
    assert again.returncode == 2
    assert f"the study of {output} runs already: --attach {output.name}" in again.stderr
    os.kill(pid, signal.SIGTERM)
    followed = subprocess.run(
        command("--attach", str(output)), capture_output=True, text=True, check=False, timeout=120
    )
    assert followed.returncode == 143, followed.stdout
    assert "Interrupted: the report shows what there is." in followed.stdout


@pytest.mark.parametrize("alone", [True, False])
def test_it_says_what_a_person_types_to_get_back(
    tmp_path: Path,
    alone: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not alone:
        (tmp_path / "commands.py").touch()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "run.py"), "quickstart", "--detach"])
    monkeypatch.setattr(detached, "FIRST_SECONDS", 0.0)
    assert detached.detach(tmp_path, ["--list"]) == 0
    said = capsys.readouterr().out
    followed = f"run.py --attach {tmp_path.name}\n"
    (pid,) = re.findall(r"process (\d+) on", said)
    if alone:
        assert f"Follow it: ray submit CLUSTER.yaml study/{followed}" in said
        assert f"End it:    ray exec CLUSTER.yaml 'kill {pid}'" in said
    else:
        assert f"Follow it: {followed}" in said and f"End it:    kill {pid}\n" in said
    os.waitpid(int(pid), 0)
