"""What a node must have before a trial runs on it, checked on the node itself.

The driver sends `Expected` to every node before the first trial; a node that joins later is sent
the same with its first trial. A problem comes with the command that mends it.
"""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock
from ray import get_runtime_context, tune

from study.ledger.provenance import package_versions, project_version, public
from study.system import is_private
from trainables.config import DataConfig
from trainables.data.prepare import MissingFilesError, cache_folder, prepare

CHECKS = ("storage", "project", "packages", "disk", "data", "gpu")
# Names of checks, with commas, that the person who drives a study leaves out.
SKIP_VARIABLE = "LRCS_SKIP_CHECKS"
# A file of one node may show on another only after this long (NFS keeps lists of files).
STORAGE_SECONDS = 15.0
# A node that joins may still be mounting its storage or copying its data. A trial waits there
# for so long; one that fails at once would let a broken node take every trial of the study.
PATIENCE_SECONDS = 300.0
PAUSE_SECONDS = 20.0
GIB = 2**30
LEAST_CACHE_BYTES = 2 * GIB
LEAST_STORAGE_BYTES = GIB
NODES = ".nodes"
# With --no-restart the files come to the head and to workers that start later.
SYNC = (
    "ray up CLUSTER.yaml (brings the project's files to all nodes, and restarts Ray there, which "
    "ends running studies)"
)


@dataclass(frozen=True)
class Expected:
    """What the driver has, and what every node must therefore have.

    Args:
        storage: folder of the study.
        token: of this session of the study: the text of the file "driver" in `folder`.
        project: see study/ledger/provenance.py.
        packages: version by package, without the part after "+" that tells CPU from CUDA.
        data: how the trials read images, with data.split_sha256 where the driver knows it.
        storage_bytes: least free bytes in the storage.
        gpus: GPUs that torch must see.
        trials: whether trials run on the node; without, only what they share is checked.
        skip: names of CHECKS that are left out.
        warnings: what the nodes said of their data, once they were asked.
    """

    storage: Path
    token: str
    project: str
    packages: Mapping[str, str]
    data: tuple[DataConfig, ...]
    storage_bytes: float
    gpus: float = 0
    trials: bool = True
    skip: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the driver and the nodes leave a file each."""
        return self.storage / NODES / self.token


# What is wrong, and the command that mends it.
Fault: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a node, and the command that mends it."""

    check: str
    text: str
    mend: str


@dataclass(frozen=True)
class NodeReport:
    """What a node says of itself; `splits` holds the hash of each of the expected data.

    `warnings` are what the driver should pass on of its files.
    """

    host: str
    problems: tuple[Problem, ...]
    splits: Mapping[DataConfig, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{found.check}: {found.text} Mend it: {found.mend}" for found in self.problems]
        return f"node {self.host}: " + (" ".join(lines) or "ready")


def check(expected: Expected, node: str = "") -> NodeReport:
    """Checks the node that this process runs on, and prepares its data.

    `node` names the file that the node leaves in the storage for the driver to read.
    """
    splits: dict[DataConfig, str] = {}
    warnings: dict[str, None] = {}
    checks = {
        "storage": lambda: _storage(expected, node),
        "project": lambda: _project(expected.project),
        "packages": lambda: _packages(expected.packages),
        "disk": lambda: _disk(expected),
        "data": lambda: _data(expected.data, splits, warnings) if expected.trials else iter(()),
        "gpu": lambda: _gpu(expected.gpus),
    }
    found: list[Problem] = []
    for name, run in checks.items():
        # Data is not decoded where that is in vain or the disk is full.
        if name not in expected.skip and not (name == "data" and found):
            found += [Problem(name, text, mend) for text, mend in run()]
    return NodeReport(platform.node(), tuple(found), splits, tuple(warnings))


class NodeCheckError(RuntimeError):
    """A node that trials were placed on is not what the study needs."""


def checked(trainable: type[tune.Trainable], expected: Expected) -> type[tune.Trainable]:
    """The trainable whose first trial on a node checks the node.

    A trial on a node that does not become ready within PATIENCE_SECONDS fails with the text of
    the check, and is started again, where there is room, as any other that fails.
    """

    class Checked(trainable):
        def setup(self, config: dict[str, Any]) -> None:
            """Checks the node first; else as the trainable's."""
            wait_until_ready(expected)
            super().setup(config)

    # Tune and its messages show the name.
    Checked.__name__ = trainable.__name__
    return Checked


def wait_until_ready(expected: Expected) -> None:
    """Checks this node, unless that was done; waits for a node that is not ready.

    Raises:
        NodeCheckError: if it has not become ready in time; says what is wrong and what mends it.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        report = check_and_remember(expected, get_runtime_context().get_node_id())
        if not report.problems:
            return
        if time.monotonic() + PAUSE_SECONDS > end:
            raise NodeCheckError(str(report))
        time.sleep(PAUSE_SECONDS)


def check_and_remember(expected: Expected, node: str) -> NodeReport:
    """As `check`, once for a node and a session of a study: others wait for the first.

    That a node is ready is remembered; one that is not is checked again. Where somebody else has
    taken the folder for that, nothing is remembered.
    """
    folder = Path(tempfile.gettempdir()) / f"lrcs-nodes-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not is_private(folder):
        return check(expected, node)
    ready = folder / f"{expected.token}-{node}"
    with FileLock(f"{ready}.lock"):
        if ready.exists():
            return NodeReport("", ())
        report = check(expected, node)
        if not report.problems:
            ready.touch()
        return report


def _storage(expected: Expected, node: str) -> Iterator[Fault]:
    """Reads what the driver wrote, and writes what it reads."""
    folder = expected.folder
    mend = (
        "mount the shared storage at the same path on every node, and name it on all of them: "
        f"export LRCS_STORAGE=PATH (now {os.environ.get('LRCS_STORAGE', 'not set')!r} here)"
    )
    try:
        text = wait_for(folder / "driver")
        if text != expected.token:
            text = f"has {text!r}" if text else "is not there"
            yield (
                f"{expected.storage} is another folder here than on the machine that drives the "
                f"study: what was written there {text}.",
                mend,
            )
            return
        if node:
            (folder / node).write_text(expected.token, encoding="utf-8")
    except OSError as error:
        text, user = error.strerror or str(error), os.environ.get("USER") or str(os.getuid())
        yield (
            f"{expected.storage} cannot be read and written here: {text}.",
            f"give the user {user} access to it: sudo chown -R {user} {expected.storage}",
        )


def wait_for(path: Path, seconds: float | None = None) -> str:
    """The text of a file that another node wrote a moment ago; "" where it does not come."""
    end = time.monotonic() + (STORAGE_SECONDS if seconds is None else seconds)
    while True:
        try:
            if text := path.read_text(encoding="utf-8"):
                return text
        except FileNotFoundError:
            pass
        if time.monotonic() > end:
            return ""
        time.sleep(0.2)


def _project(expected: str) -> Iterator[Fault]:
    here = project_version()
    if here != expected:
        where = Path(__file__).resolve().parents[2]
        yield (
            f"the project must be the driver's ({expected}), but {where} is {here}.",
            SYNC,
        )


def _packages(expected: Mapping[str, str]) -> Iterator[Fault]:
    here = package_versions()
    wrong = {key: version for key, version in expected.items() if here.get(key) != version}
    if wrong:
        pairs = ", ".join(f"{key} {here.get(key, 'missing')}" for key in wrong)
        wanted = " ".join(f"{key}=={version}" for key, version in wrong.items())
        yield (
            f"packages must be the driver's ({wanted}), but here are {pairs}.",
            f"{sys.executable} -m pip install {wanted}",
        )


def _disk(expected: Expected) -> Iterator[Fault]:
    least = {expected.storage: expected.storage_bytes}
    if expected.trials and expected.data:
        least[cache_folder()] = max(LEAST_CACHE_BYTES, least.get(cache_folder(), 0))
    for folder, need in least.items():
        there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
        try:
            free = shutil.disk_usage(there).free
        except OSError as error:
            reason = error.strerror or str(error)
            yield (f"{folder} cannot be read: {reason}.", f"ls -ld {there}")
            continue
        if free < need:
            other = "LRCS_STORAGE" if folder == expected.storage else "LRCS_CACHE_ROOT"
            yield (
                f"{folder} must have {need / GIB:.1f} GiB free, but has {free / GIB:.1f}.",
                f"make room there (du -xh {there} | sort -h | tail), or name another disk in "
                f"{other}",
            )


def _data(
    configs: tuple[DataConfig, ...], splits: dict[DataConfig, str], warnings: dict[str, None]
) -> Iterator[Fault]:
    """Prepares every data set; `splits` takes the hashes, `warnings` what was found with it."""
    again = f"{sys.executable} -m study.run STUDY.yaml --prepare (on that node)"
    for config in configs:
        try:
            done = prepare(config)
            found = splits[config] = done.sha256
            warnings |= dict.fromkeys(done.warnings)
        except MissingFilesError as error:
            mend = (
                "copy them there, or export LRCS_DATA_ROOT=FOLDER before `ray start` on that node"
            )
            yield (str(error), mend)
        except (ValueError, OSError) as error:
            yield (f"{config.name} cannot be prepared: {error}", again)
        else:
            if config.split_sha256 not in (None, found):
                yield (
                    f"{config.name} must have the split {config.split_sha256}, but here it has "
                    f"{found}: its images or data.manifest differ from the driver's.",
                    "copy the driver's files to that node, and check: " + again,
                )


def _gpu(expected: float) -> Iterator[Fault]:
    if expected <= 0:
        return
    # Of a process of its own: this one was given no GPU, and would keep what CUDA takes.
    code = "import torch; print(torch.__version__, torch.cuda.device_count())"
    hidden = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    version, _, count = done.stdout.strip().rpartition(" ")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        yield (f"torch cannot be imported: {lines[-1]}.", f"{sys.executable} -c {code!r}")
    elif int(count) < expected:
        yield (
            f"torch must see {expected:g} GPU{'s' if expected > 1 else ''}, but torch {version} "
            f"sees {count}.",
            "nvidia-smi (the driver), then a CUDA build of torch: "
            f"{sys.executable} -m pip install --force-reinstall torch=={public(version)}",
        )
