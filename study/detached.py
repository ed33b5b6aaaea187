"""A study that goes on when the terminal closes, and what shows its console again.

Its console goes to a file in the study's folder, which the process locks for as long as it runs;
the last thing it leaves is its exit code.
"""

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from study.folders import newest
from study.lock import WITHOUT_LOCKS
from study.terminal import say

CONSOLE, EXIT_CODE = "console.log", "exit_code"
FILES = frozenset((CONSOLE, EXIT_CODE))
# A mistake that shows only now (a file that is missing, no Ray) is worth waiting for.
FIRST_SECONDS = 4.0
PAUSE_SECONDS = 0.3


def detach(output: Path, arguments: Sequence[str]) -> int:
    """Starts `run.py` with `arguments` in a session of its own, and says how to get back to it.

    Args:
        output: folder of the study, which exists.
        arguments: of the command line, without --detach; they lead to `output`.

    Returns:
        0, or the exit code of a study that has ended within FIRST_SECONDS.

    Raises:
        ValueError: if the study runs detached already, or its folder cannot be written to.
    """
    script = sys.argv[0] if Path(sys.argv[0]).name == "run.py" else "study/run.py"
    command = [sys.executable, "-P", "-m", "study.detached", script, str(output), *arguments]
    root = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    try:
        with (output / CONSOLE).open("ab") as console:
            if _locked(console.fileno()):
                raise ValueError(f"the study of {output} runs already: --attach {output.name}")
            (output / EXIT_CODE).unlink(missing_ok=True)
            # The lock goes with the file to the process, and so ends with it.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        raise ValueError(f"{output} cannot be written: {error.strerror}.") from error
    try:
        code = process.wait(FIRST_SECONDS)
    except subprocess.TimeoutExpired:
        say(
            f"The study goes on by itself: process {process.pid} on {platform.node()}, console in "
            f"{(output / CONSOLE).resolve()}\n"
            f"Follow it: {_again(f'--attach {output.name}')}\n"
            f"End it:    {_on_head(f'kill {process.pid}')}"
        )
        return 0
    say((output / CONSOLE).read_text(encoding="utf-8", errors="replace").rstrip(), error=code != 0)
    return code


def find_console(wanted: str, roots: Sequence[Path]) -> Path:
    """The folder of a study that was detached: a folder, or the start of its name in a root.

    Of several it is the one that was started last.

    Raises:
        ValueError: if there is none.
    """
    found = newest(wanted, roots, CONSOLE)
    if found is None:
        places = " or ".join(str(root.resolve()) for root in roots)
        raise ValueError(
            f"--attach must name the folder of a study that was started with --detach, or the "
            f"start of the name of such a folder in {places}, but got {wanted!r}."
        )
    return found


def attach(output: Path, write: Callable[[str], object] = sys.stdout.write) -> int:
    """Shows the console of a study until the study ends; returns its exit code.

    Ctrl-C ends the showing, not the study: 130 is returned then.
    """
    try:
        with (output / CONSOLE).open(encoding="utf-8", errors="replace") as console:
            while True:
                # Asked before reading: what was written last must be shown too.
                running = _is_running(output)
                while text := console.read():
                    write(text)
                sys.stdout.flush()
                if not running:
                    return _ended(output)
                time.sleep(PAUSE_SECONDS)
    except KeyboardInterrupt:
        say(f"\nThe study goes on. Show it again: {_again(f'--attach {output.name}')}")
        return 128 + signal.SIGINT


def _again(arguments: str) -> str:
    """The command line that a person types for another run with `arguments`."""
    if _came_alone():
        return f"ray submit CLUSTER.yaml study/run.py {arguments}"
    return f"run.py {arguments}"


def _on_head(command: str) -> str:
    return f"ray exec CLUSTER.yaml '{command}'" if _came_alone() else command


def _came_alone() -> bool:
    """Whether `ray submit` has brought run.py: the project is elsewhere."""
    script = Path(sys.argv[0])
    return script.name == "run.py" and not script.with_name("commands.py").exists()


def _ended(output: Path) -> int:
    try:
        return int((output / EXIT_CODE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        say(
            f"error: the study was killed, and has left no exit code. Go on with: "
            f"{_again(f'--resume {output.name}')}",
            error=True,
        )
        return 1


def _is_running(output: Path) -> bool:
    """Whether the process that writes the console is there, on this machine or another."""
    if (output / EXIT_CODE).exists():
        return False
    with (output / CONSOLE).open("ab") as console:
        return _locked(console.fileno())


def _locked(descriptor: int) -> bool:
    """Locks a file; True where another process has locked it.

    Where the file system knows no locks only the exit code tells that a study has ended.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in (*WITHOUT_LOCKS, errno.EINVAL):
            raise
    return False


def _run(script: str, output: Path, arguments: Sequence[str]) -> int:
    """Runs the command line in this process and leaves its exit code."""
    from study import run

    # The end of the terminal is not the study's, also where a second session is of no help.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Where the shell that started it had put it into the background, Ctrl-C's signal is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [script, *arguments]
    code = 1
    try:
        code = run.main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        # Also below an error, whose traceback Python writes to the console next.
        (output / EXIT_CODE).write_text(f"{code}\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
