"""The processes of a study that is really run: in a home of their own, found, and seen to end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from study import run

# A minute and what Ray and its workers take to start where other tests keep the cores busy.
SILENCE_SECONDS = 120.0


def environment(home: Path) -> dict[str, str]:
    """What a study is started with here: a home and a Ray of its own, one thread for a trial."""
    own = {"HOME": str(home), "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "local"}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1"}


def family(driver: int) -> list[int]:
    """All processes that descend from a driver."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
    found = [driver]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def title(process: int) -> str:
    """The command line of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def count(ledger: Path, kind: str = "") -> int:
    """How many records a ledger that is being written holds, of one kind or of all."""
    if not ledger.exists():
        return 0
    lines = ledger.read_bytes().splitlines(keepends=True)
    wanted = f'"kind":"{kind}"'.encode() if kind else b""
    return sum(line.endswith(b"\n") and wanted in line.replace(b" ", b"") for line in lines)


def wait_for_end_of(home: Path) -> None:
    """Waits until no process of any study in a home is left: Ray's end with their driver."""
    own, end = f"HOME={home}\0".encode(), time.monotonic() + 60
    while True:
        left = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if own in (folder / "environ").read_bytes():
                    left.append(title(int(folder.name)))
        if not left:
            return
        assert time.monotonic() < end, left
        time.sleep(0.2)


class Session:
    """A driver that was started; whatever is left of it at the end is killed."""

    def __init__(self, home: Path, ledger: Path, *arguments: str) -> None:
        self._ledger = ledger
        self._console = home / f"console-{time.monotonic_ns()}"
        with self._console.open("w", encoding="utf-8") as console:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(run.__file__)), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                cwd=home,
                env=environment(home),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            for pid in (*family(self.process.pid), self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()

    @property
    def said(self) -> str:
        """All that it has printed."""
        return self._console.read_text("utf-8")

    def wait(self, ready: Callable[[], bool]) -> bool:
        """Waits until something is so, or for its end; returns whether it is so."""
        size, since = -1, time.monotonic()
        while self.process.poll() is None:
            if ready():
                return True
            now = self._ledger.stat().st_size if self._ledger.exists() else 0
            if now != size:
                size, since = now, time.monotonic()
            silent = time.monotonic() - since
            assert silent < SILENCE_SECONDS, f"the ledger is silent for {silent:.0f} s: {self.said}"
            time.sleep(0.05)
        return False


def never() -> bool:
    """What a session that is to end by itself is waited for with."""
    return False
