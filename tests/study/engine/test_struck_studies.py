"""Studies of which every kind of process is killed, one after the other, and that end as planned.

Of each of three studies every one of six kinds is struck in one repetition, in an order and at
moments from a fixed seed. A study that ends before all of them were, or whose ledger is silent for
two minutes, has failed.
"""

import functools
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.ledger import Record, read_ledger
from tests.study.engine.each_once import check_each_once, measured
from tests.study.engine.processes import (
    Session,
    count,
    family,
    never,
    title,
    wait_for_end_of,
)
from tests.study.tracking.mlflow_server import counted, expected

pytestmark = [pytest.mark.process, pytest.mark.nightly]
# What the command line of each holds; the driver is known, and both is a worker and the driver.
TITLES = {
    "worker": "ContinualTrainable",
    "writer": "study.tracking.writer",
    "raylet": "/raylet/raylet ",
    "gcs": "/gcs_server ",
}
KINDS = ("worker", "driver", "both", "writer", "raylet", "gcs")
# The session goes on without these, and ends by itself, with what to do, without those.
SURVIVED, NOTICED = ("worker", "writer"), ("raylet", "gcs")
RATES = [0.0005, 0.001, 0.002, 0.004]
FIXED = {
    "data.name": "icons",
    "data.classes": 16,
    "data.train_per_class": 8,
    "data.test_per_class": 3,
    "optim.epochs": 1,
    "optim.batch_size": 16,
    "diagnostics": False,
}
# Sampled from a grid and never pruned: what a trial measures depends on its settings alone.
GRID: dict[str, Any] = {
    "name": "grid",
    "question": "Does it survive kills?",
    "grid": {"method.name": ["inflora", "sd_lora"], "data.tasks": [4, 8]},
    "fixed": FIXED,
    "search": {name: {"optim.lr": {"choices": RATES}} for name in ("inflora", "sd_lora")},
    "objective": {"val/accuracy": "max"},
    "sampler": "grid",
    "pruner": {"kind": "none"},
    "trials": 4,
    "seeds": [0, 1],
    "retries": 2,
    "export": "none",
    "resources": {"cpu": 1, "gpu": 0},
}
# Few tasks: what is struck is often at its beginning or its end. With so many epochs a task takes
# long enough for every kind to be struck before the last one, on a fast machine too.
TINY: dict[str, Any] = {
    **GRID,
    "name": "tiny",
    "grid": {"method.name": ["inflora", "sd_lora"], "data.tasks": [4]},
    "fixed": {**FIXED, "data.classes": 12, "data.train_per_class": 6, "optim.epochs": 25},
    "search": {name: {"optim.lr": {"choices": RATES[:2]}} for name in ("inflora", "sd_lora")},
    "trials": 2,
    "seeds": [0],
    "retries": 1,
}
SPACE = {
    "optim.lr": {"low": 0.0001, "high": 0.01, "log": True},
    "method.rank": {"choices": [2, 4, 8]},
}
# One after the other: what is proposed and pruned depends on what came before.
ASHA: dict[str, Any] = {
    **GRID,
    "name": "asha",
    "grid": {"method.name": ["inflora", "sd_lora"], "data.tasks": [8]},
    "search": {name: dict(SPACE) for name in ("inflora", "sd_lora")},
    "sampler": "tpe",
    "pruner": {"kind": "asha", "reduction": 2, "first_rung": 2},
    "trials": 6,
    "max_concurrent": 1,
}
STUDIES = {"tiny": TINY, "grid": GRID, "asha": ASHA}


def kill(victim: int, struck: list[str]) -> bool:
    """Kills a process and notes it; returns whether it was still there."""
    what = f"{victim} {title(victim)[:40]}"
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return False
    struck.append(what)
    return True


def strike(session: Session, kind: str, dice: random.Random) -> list[str]:
    """Kills what is of a kind with SIGKILL, once it is there; returns what it was."""
    wanted = TITLES.get("worker" if kind == "both" else kind)
    struck: list[str] = []

    def strikes() -> bool:
        found = [pid for pid in family(session.process.pid) if wanted and wanted in title(pid)]
        return bool(found) and kill(dice.choice(found), struck)

    if wanted:
        assert session.wait(strikes), (
            f"the session ended before the {kind} was killed: {session.said}"
        )
    if kind in ("driver", "both"):
        assert kill(session.process.pid, struck)
    return struck


def has_tasks(ledger: Path, due: int) -> bool:
    """Whether so many tasks are recorded."""
    return count(ledger, "task") >= due


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What killed sessions leave may live on beside later ones, but not for good."""
    made = tmp_path_factory.mktemp("struck")
    yield made
    wait_for_end_of(made)


def undisturbed(home: Path, file: Path) -> list[Record]:
    """The records of a study that nobody disturbs."""
    output = home / f"undisturbed-{file.stem}"
    ledger = output / "ledger.jsonl"
    arguments = (str(file), "--output", str(output), "--set", "tracking=none")
    with Session(home, ledger, *arguments) as session:
        session.wait(never)
        assert session.process.returncode == 0, session.said
    return read_ledger(ledger)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_which_every_kind_is_struck_ends_as_planned(home: Path, name: str) -> None:
    file, output = home / f"{name}.yaml", home / name
    file.write_text(yaml.safe_dump(STUDIES[name], sort_keys=False), encoding="utf-8")
    planned, ledger = measured(undisturbed(home, file)), output / "ledger.jsonl"
    dice = random.Random(f"struck {name}")
    left = dice.sample(KINDS, len(KINDS))
    arguments, began = [str(file), "--output", str(output)], time.monotonic()
    while True:
        struck = ""
        with Session(home, ledger, *arguments) as session:
            while left and struck in ("", *SURVIVED):
                done = count(ledger, "task")
                # Soon enough for all that are left.
                due = done + dice.randint(1, max(1, (len(planned) - done) // (len(left) + 1)))
                if not session.wait(functools.partial(has_tasks, ledger, due)):
                    break
                time.sleep(dice.uniform(0, 0.5))
                struck = left.pop(0)
                victims = strike(session, struck, dice)
                when = f"{time.monotonic() - began:.0f} s, {count(ledger, 'task')} tasks"
                print(f"{name}, {when}: {struck}, {victims}")  # noqa: T201
            session.wait(never)
            code, said = session.process.returncode, session.said
        assert "Traceback" not in said, said
        if code == 0:
            break
        # Nothing but what was struck ends a session.
        assert struck and struck not in SURVIVED, said
        if struck in NOTICED:
            assert code == 1 and "Go on with: " in said, said
            assert (output / "report" / "report.html").exists()
        arguments = ["--resume", str(output)]
    assert not left, f"the study ended before these were struck: {left}"
    records = read_ledger(ledger)
    check_each_once(records, STUDIES[name])
    assert measured(records) == planned
    assert counted(output / "mlflow.db") == expected(records)
