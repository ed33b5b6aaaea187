"""Processes that measure beside each other, and what a single one takes."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from tempfile import TemporaryFile
from typing import Any, NamedTuple, Self


class Workers:
    """A process for each `module ARGUMENTS`, while the block lasts; `options` are Popen's.

    Each says a line, waits for one, says the next.
    """

    def __init__(self, commands: Sequence[Sequence[str]], **options: Any) -> None:
        pipe = subprocess.PIPE
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", *command], stdin=pipe, stdout=pipe, text=True, **options
            )
            for command in commands
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def answers(self) -> list[str]:
        """The next line of each; RuntimeError if one ended without it."""
        lines = [process.stdout.readline().strip() for process in self._processes if process.stdout]
        if not all(lines):
            raise RuntimeError("a process ended before it was measured, as for lack of memory.")
        return lines

    def go_on(self) -> None:
        """Writes the line that each waits for."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()


class Spent(NamedTuple):
    """What a process took: wall time, seconds of a core, peak bytes; and all that it said."""

    seconds: float
    core_seconds: float
    peak: int
    said: str


def spent(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Spent:
    """Runs a command to its end; RuntimeError if it fails."""
    with TemporaryFile("w+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        # Of this child alone, where getrusage would give those of all.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = log.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} must succeed, but it said: {said[-2000:]}")
    return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, said)


def say(line: object) -> None:
    """Writes a line for the one who measures, or for a person."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
