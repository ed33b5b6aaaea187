"""What holds for every test and what it starts: a place of its own, and a second of CPU each.

The person's home, caches and temporary files are neither read nor written: whatever others have
left there, a cluster's address or a token of Ray's, changes no test.
"""

import atexit
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest

# Short, since it is in the paths of Ray's sockets, which may have 107 bytes at most.
SHORT = Path("/tmp")
PLACE = Path(tempfile.mkdtemp(prefix="lrcs-", dir=SHORT if os.access(SHORT, os.W_OK) else None))
atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
for variable, folder in {
    "HOME": "home",
    "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config",
    # Of all processes of a run: the list of fonts takes a second to make.
    "MPLCONFIGDIR": "matplotlib",
    # Where `ray start` and clusters of tests note their address.
    "RAY_TMPDIR": ".",
    "LRCS_CACHE_ROOT": "cache",
}.items():
    (PLACE / folder).mkdir(parents=True, exist_ok=True)
    os.environ[variable] = str(PLACE / folder)
for variable in ("MLFLOW_TRACKING_URI", "LRCS_STORAGE", "LRCS_DATA_ROOT"):
    os.environ.pop(variable, None)
# Tiny networks only lose time to threads, and two test runs at once would fight for the cores.
os.environ["OMP_NUM_THREADS"] = "1"
# A cluster that runs on this machine is not the tests' to join.
os.environ["RAY_ADDRESS"] = "local"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

# A test with one of these may take its time.
UNHURRIED = ("process", "slow", "cluster", "gpu", "nightly")
CPU_SECONDS = 1.0
# What `unit_seconds` measured on a core on which the default study takes 213 s: 23 ms where it took
# 395 s, brought to the other by the ratio of the two.
UNIT_SECONDS = 0.0125
# What a module takes that is imported for the first time, as where one test is run alone.
SECONDS_A_MODULE = 0.01


def unit_seconds() -> float:
    """CPU seconds of a fixed piece of work, as this core does it now: the median of three."""
    seconds = []
    for _ in range(3):
        start, total = time.process_time(), 0
        for number in range(200_000):
            total += number * number % 7
        seconds.append(time.process_time() - start)
    return sorted(seconds)[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fails a test without a marker that uses more than a second of CPU in this process.

    On a slower core, or beside another process on the same one, a second is as much longer as a
    fixed piece of work takes then.
    """
    modules, start = len(sys.modules), time.process_time()
    yield
    used = time.process_time() - start
    allowed = CPU_SECONDS + SECONDS_A_MODULE * (len(sys.modules) - modules)
    if used > allowed and not any(item.get_closest_marker(name) for name in UNHURRIED):
        slower = max(1.0, unit_seconds() / UNIT_SECONDS)
        if used > allowed * slower:
            pytest.fail(
                f"a test must use at most {CPU_SECONDS * slower:.1f} s of CPU on this core, but "
                f"used {used:.1f} s."
            )


@pytest.fixture(scope="module", autouse=True)
def _settled() -> None:
    """What is imported by now stays: the garbage collector need not look at it in every test."""
    gc.collect()
    gc.freeze()
