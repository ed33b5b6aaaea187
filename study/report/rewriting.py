"""The page of a study that runs: written anew every few minutes, beside the study."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from study.system import own_environment, say

REWRITE_SECONDS = 240
"""How often it is written, and loads itself again."""
REST = 5
"""How much longer than it takes to write it is left alone at least."""


@contextlib.contextmanager
def rewritten(command: Callable[[], list[str]]) -> Iterator[None]:
    """Writes a study's page anew every few minutes while it is active, by running a command.

    Each run is a process of the lowest priority, and is ended where it is not done at the end. The
    first one that fails is the last, and said.
    """
    over, started = threading.Event(), list[subprocess.Popen[str]]()

    def write() -> None:
        rest: float = REWRITE_SECONDS
        while not over.wait(rest):
            begin = time.monotonic()
            problem = _written(command(), started, over)
            if problem is not None:
                if not over.is_set():
                    say(f"Writing the page failed ({problem}): it is written at the end.", True)
                return
            rest = max(REWRITE_SECONDS, REST * (time.monotonic() - begin))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield
    finally:
        over.set()
        for process in started:
            process.kill()
        writer.join()


def _written(
    command: list[str], started: list[subprocess.Popen[str]], over: threading.Event
) -> str | None:
    """Runs a command that others may end; returns why it failed, if it did."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=own_environment(),
            # Ctrl-C is for the study.
            start_new_session=True,
        )
    except OSError as error:
        return str(error)
    started[:] = [process]
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    if over.is_set():
        process.kill()
    _, told = process.communicate()
    if process.returncode == 0:
        return None
    return (told.strip().splitlines() or [f"code {process.returncode}"])[-1]
