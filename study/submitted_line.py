"""What a person typed behind `ray submit … study/run.py`, before the head's shell changed it.

Ray 2.60 has `bash --login -c -i '… && (python ~/run.py ARGUMENTS)'` run on the head. The shell
waits for its command, and its own command line is in /proc as it was given.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

COMMAND = "python ~/run.py"
# Put behind the arguments by the options --screen, --tmux and --stop.
LATER = (
    "; exec bash",
    "; ray stop; ray teardown ~/ray_bootstrap_config.yaml --yes --workers-only; "
    "sudo shutdown -h now",
)


def submitted_text(processes: Path = Path("/proc")) -> str | None:
    """The arguments as they were typed, or None where no shell above this process has them."""
    for ancestor in _ancestors(processes):
        for word in _words(processes, ancestor):
            before, found, text = word.partition(COMMAND)
            if found:
                return _arguments(before, text)
    return None


def was_left_alone() -> bool:
    """Whether the shell that started this process has ended, as it does behind an `&`."""
    leader = os.getsid(0)
    if leader == os.getpid():
        return False
    with contextlib.suppress(OSError):
        return os.getsid(os.getppid()) != leader
    return True


def _arguments(before: str, text: str) -> str:
    # Ray's own parentheses.
    text = text.removesuffix(")") if "(" in before else text
    for one in LATER:
        text = text.removesuffix(one)
    return text


def _ancestors(processes: Path) -> Iterator[int]:
    """The parent of this process, its parent, and so on, as far as they may be looked at."""
    pid = os.getppid()
    while pid > 0:
        yield pid
        try:
            status = (processes / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        # The name of the program, in parentheses, may hold anything.
        pid = int(status.rpartition(")")[2].split()[1])


def _words(processes: Path, pid: int) -> list[str]:
    try:
        return os.fsdecode((processes / str(pid) / "cmdline").read_bytes()).split("\0")
    except OSError:
        return []
