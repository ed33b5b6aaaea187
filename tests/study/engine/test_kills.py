"""A study whose processes are killed at random moments, and that goes on to the planned end.

It is a real study through study/run.py: four cells of two search trials and two confirmations
each, 16 trials of two to four tasks. Every one of ten repetitions prints what was killed and when.
At a push, a smaller one is killed in tests/study/commands/test_resume.py.
"""

import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import run
from study.ledger import Record, read_ledger
from tests.study.engine.each_once import check_each_once, decisions, measured
from tests.study.engine.processes import count, environment, family, title, wait_for_end_of
from tests.study.small_study import FIXED

SCRIPT = Path(run.__file__)
pytestmark = [pytest.mark.process, pytest.mark.nightly]
# Grid sampling without pruning: what a trial measures depends on its settings alone.
PARALLEL: dict[str, Any] = {
    "name": "kills",
    "question": "Does it end as planned?",
    "grid": {"method.name": ["sequential", "sd_lora"], "data.tasks": [2, 4]},
    "fixed": {**FIXED, "data.train_per_class": 12, "data.test_per_class": 4},
    "search": {
        "sequential": {"optim.lr": {"choices": [0.001, 0.01]}},
        "sd_lora": {"optim.lr": {"choices": [0.001, 0.01]}},
    },
    "sampler": "grid",
    "pruner": {"kind": "none"},
    "trials": 2,
    "seeds": [0, 1],
    "retries": 3,
    "export": "none",
    "tracking": "none",
}
# One trial after the other: what is proposed and pruned depends on what came before.
SERIAL: dict[str, Any] = {
    **PARALLEL,
    "grid": {"method.name": ["sequential", "sd_lora"], "data.tasks": [4]},
    "search": "all",
    "sampler": "tpe",
    "pruner": {"kind": "asha", "first_rung": 1, "reduction": 2},
    "trials": 4,
    "max_concurrent": 1,
}
# What runs next depends on looks, and these on when trials end.
DECIDED: dict[str, Any] = {
    **PARALLEL,
    "grid": {"method.name": ["sequential", "sd_lora"], "data.tasks": [2, 3]},
    "seeds": {"first": 3, "at_most": 5, "until": "decided"},
    "contrasts": ["sequential vs sd_lora", {"first": 2, "second": 3, "metric": "test/plasticity"}],
}
STUDIES = {"parallel": PARALLEL, "serial": SERIAL, "decided": DECIDED}
# What is killed, in which study, with which seed of the moments.
KINDS = ("trial", "driver", "both")
# Parts of Ray, by what their command lines hold.
PARTS = {"raylet": "/raylet/raylet ", "gcs": "/gcs_server "}
REPETITIONS = [
    (KINDS[seed % 3], "serial" if seed in (4, 8) else "parallel", seed)
    # Of a driver that was killed, processes of Ray stay for half a minute: the last kills a trial.
    for seed in (8, 4, 2, 1, 0)
] + [(part, "parallel", seed) for seed, part in enumerate(PARTS, start=10)]
REPETITIONS += [(kind, "decided", seed) for seed, kind in enumerate(KINDS, start=12)]
TIMEOUT = 300
# In which a driver must have noticed that a part of Ray is dead, and have ended its records.
NOTICE_SECONDS = 30.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What killed sessions leave may live on beside later ones, but not for good."""
    made = tmp_path_factory.mktemp("kills")
    yield made
    wait_for_end_of(made)


def command(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts study/run.py in a home of its own."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home,
        env=environment(home),
    )


def start(home: Path, study: str, output: Path) -> subprocess.Popen[str]:
    """Starts one of the studies anew."""
    file = home / f"{study}.yaml"
    file.write_text(yaml.safe_dump(STUDIES[study], sort_keys=False), encoding="utf-8")
    return command(home, str(file), "--output", str(output))


@functools.cache
def undisturbed(home: Path, study: str) -> list[Record]:
    """The records of a study that nobody disturbs; each is run once."""
    output = home / f"undisturbed-{study}"
    _finish(start(home, study, output))
    return read_ledger(output / "ledger.jsonl")


@pytest.mark.parametrize(("killed", "study", "seed"), REPETITIONS)
def test_a_study_that_is_killed_ends_as_planned(
    home: Path, killed: str, study: str, seed: int
) -> None:
    expected = undisturbed(home, study)
    output = home / f"{study}-{killed}-{seed}"
    dice = random.Random(seed)
    process = start(home, study, output)
    ledger = output / "ledger.jsonl"
    # Somewhere in its first two thirds: what is left is then a study, and not its end.
    _wait_for(ledger, dice.randint(6, 2 * len(expected) // 3), process)
    time.sleep(dice.uniform(0, 0.3))
    victims = _kill(process, killed, dice)
    struck = time.time()
    print(f"{killed}, {study}, seed {seed}: after {count(ledger)} records {victims}")  # noqa: T201
    out = _finish(process, killed != "trial")
    if killed != "trial":
        # At once: what is left of the killed session must not matter.
        if killed in PARTS:
            assert process.returncode == 1 and "Go on with: " in out
            ends = [record for record in read_ledger(ledger) if record["kind"] == "finished"]
            assert [record["status"] for record in ends] == ["interrupted"]
            assert ends[0]["time"] - struck < NOTICE_SECONDS
            assert (output / "report" / "report.html").exists()
        out = _finish(command(home, "--resume", str(output)))
    assert "Traceback" not in out, out
    records = read_ledger(ledger)
    confirmed = [trial for trial in expected if trial.get("role") == "confirm"]
    check_each_once(records, STUDIES[study], len(confirmed) if study == "decided" else None)
    assert decisions(records) == decisions(expected)
    if killed != "trial":
        assert any(record["kind"] == "resumed" for record in records)
    assert measured(records) == measured(expected)


def _kill(process: subprocess.Popen[str], killed: str, dice: random.Random) -> list[str]:
    """Kills processes of one driver's own family with SIGKILL; returns what they were."""
    victims: list[int] = []
    wanted = PARTS.get(killed, "ContinualTrainable")
    while killed != "driver" and not victims and process.poll() is None:
        found = [pid for pid in family(process.pid) if wanted in title(pid)]
        victims = dice.sample(found, min(1, len(found)))
    assert victims or killed == "driver", "the study ended before the kill"
    if killed in ("driver", "both"):
        victims.append(process.pid)
    titles = [f"{pid} {title(pid)[:40]}" for pid in victims]
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return titles


def _wait_for(ledger: Path, records: int, process: subprocess.Popen[str]) -> None:
    """Waits until the ledger holds so many records."""
    end = time.monotonic() + TIMEOUT
    while process.poll() is None and count(ledger) < records:
        assert time.monotonic() < end, "the study stands still"
        time.sleep(0.05)


def _finish(process: subprocess.Popen[str], killed: bool = False) -> str:
    """Waits for the end of a study and returns what it printed."""
    out, _ = process.communicate(timeout=TIMEOUT)
    if not killed:
        assert process.returncode == 0, out
    return out
