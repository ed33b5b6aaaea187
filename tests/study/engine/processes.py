"""The processes of a study that is really run: in a home of their own, found, and seen to end."""

import contextlib
import os
import time
from pathlib import Path


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
