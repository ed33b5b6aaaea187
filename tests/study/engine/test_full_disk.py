"""A disk that is full, fills up, or is read-only for a while, under a study that is really run.

The study ends in one message, goes on once there is room again, and comes to what one comes to that
nobody disturbs.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import run
from study.ledger import Record, read_ledger
from tests.study.engine.each_once import check_each_once, measured
from tests.study.engine.processes import Session, count, never, wait_for_end_of
from tests.study.small_study import FIXED
from tests.study.tracking.mlflow_server import counted, expected

pytestmark = [pytest.mark.process, pytest.mark.nightly]
# Grid sampling without pruning: what a trial measures depends on its settings alone.
STUDY: dict[str, Any] = {
    "name": "full",
    "question": "Does it end as planned?",
    "grid": {"method.name": ["sequential", "sd_lora"], "data.tasks": [4]},
    "fixed": {**FIXED, "data.train_per_class": 12, "data.test_per_class": 4},
    "search": {
        name: {"optim.lr": {"choices": [0.001, 0.01]}} for name in ("sequential", "sd_lora")
    },
    "sampler": "grid",
    "pruner": {"kind": "none"},
    "trials": 2,
    "seeds": [0],
    "export": "none",
}
FILES = 2000
# What a disk lacks, and of sessions one after the other: from when on, given the tasks before.
HOWS = ("bytes", "files", "read-only")
SESSIONS: tuple[tuple[str, Callable[[Path, int], bool]], ...] = (
    ("bytes", lambda ledger, tasks: count(ledger, "task") > tasks),
    ("files", lambda ledger, tasks: count(ledger, "task") > tasks + 2),
    ("read-only", lambda ledger, tasks: count(ledger, "task") > tasks + 1),
    ("bytes", lambda ledger, tasks: confirms(ledger)),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of all studies here, with the file of the study."""
    made = tmp_path_factory.mktemp("full")
    (made / "full.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    yield made
    wait_for_end_of(made)


def undisturbed(home: Path) -> list[Record]:
    """The records of the study where nobody disturbs it."""
    output = home / "undisturbed"
    ledger = output / "ledger.jsonl"
    with Session(home, ledger, str(home / "full.yaml"), "--output", str(output)) as session:
        session.wait(never)
        assert session.process.returncode == 0, session.said
    return read_ledger(ledger)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size=40m,nr_inodes={FILES}", "tmpfs", str(place))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("for want of the right to mount a disk (root or namespaces)")
    yield place
    while place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, stderr=subprocess.DEVNULL)


def take(disk: Path, how: str) -> None:
    """Leaves no byte, or no file, on a disk; or makes it read-only but for what is open already."""
    if how == "read-only":
        if not os.statvfs(disk).f_flag & os.ST_RDONLY:
            mount("--bind", "-o", "ro", str(disk), str(disk))
        return
    fillers = disk / "fillers"
    with contextlib.suppress(OSError):
        fillers.mkdir(exist_ok=True)
        while how == "files":
            (fillers / f"{time.monotonic_ns()}").touch()
        with (fillers / "bytes").open("ab", buffering=0) as file:
            while True:
                file.write(b"\1" * shutil.disk_usage(disk).free or b"\1")


def give_back(disk: Path, how: str) -> None:
    """Makes room again."""
    if how == "read-only":
        subprocess.run(["umount", str(disk)], check=True)
    else:
        shutil.rmtree(disk / "fillers")


def confirms(ledger: Path) -> bool:
    """Whether a confirmation has begun."""
    return any(
        record["kind"] == "trial" and record["role"] == "confirm" for record in read_ledger(ledger)
    )


def check_message(session: Session, how: str, code: int) -> str:
    """The one message that a session ended with; it tells why."""
    said = session.said
    assert session.process.returncode == code, said
    assert "Traceback" not in said and " failed (" not in said, said
    # The process that writes to MLflow may have found out first.
    alarms = [line for line in said.splitlines() if line.startswith(("error: ", "Warning: "))]
    (message,) = (line for line in alarms if "MLflow cannot be reached" not in line)
    why = "Read-only file system" if how == "read-only" else "No space left on device"
    assert message.startswith("error: ") and why in message, said
    return message


def test_a_study_without_room_ends_in_one_message_each_time_and_goes_on(
    home: Path, disk: Path
) -> None:
    planned = undisturbed(home)
    output, began = disk / "study", time.monotonic()
    ledger, anew = output / "ledger.jsonl", (str(home / "full.yaml"), "--output", str(output))
    for how in HOWS:
        take(disk, how)
        with Session(home, ledger, *anew) as session:
            session.wait(never)
            check_message(session, how, 2)
        give_back(disk, how)
    arguments: tuple[str, ...] = anew
    for how, is_time in SESSIONS:
        tasks = count(ledger, "task")
        with Session(home, ledger, *arguments) as session:
            assert session.wait(lambda: is_time(ledger, tasks)), session.said  # noqa: B023
            print(f"{time.monotonic() - began:.0f} s: {how}")  # noqa: T201

            def fill() -> bool:
                # Again and again: what the study deletes would be room.
                take(disk, how)  # noqa: B023
                return False

            session.wait(fill)
            message = check_message(session, how, 1)
        assert f"go on with: python {run.__file__} --resume {output}" in message
        give_back(disk, how)
        arguments = ("--resume", str(output))
    with Session(home, ledger, *arguments) as session:
        session.wait(never)
        assert session.process.returncode == 0, session.said
        assert "Traceback" not in session.said and "Warning" not in session.said, session.said
    print(f"{time.monotonic() - began:.0f} s: over")  # noqa: T201
    records = read_ledger(ledger)
    check_each_once(records, STUDY)
    assert measured(records) == measured(planned)
    assert counted(output / "mlflow.db") == expected(records)
    assert (output / "report" / "report.html").exists()
