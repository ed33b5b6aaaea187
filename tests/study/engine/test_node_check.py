"""The check of a node: each failure, told with what mends it."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from study.engine import node_check
from study.engine.node_check import GIB, Expected, check, check_and_remember
from study.ledger import provenance
from study.ledger.provenance import package_versions, project_version
from study.planning.data import data_configs
from tests.study.small_study import small_plan, write_npz
from tests.study.strangers import give_away
from trainables.data.prepare import prepare


@pytest.fixture
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Expected:
    """What a driver on this machine asks for, with the data set mine.npz."""
    (tmp_path / "data").mkdir()
    fixed = {**write_npz(tmp_path / "data"), "data.classes": None}
    monkeypatch.setenv("LRCS_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("LRCS_CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setattr(node_check, "STORAGE_SECONDS", 0.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100 * GIB))
    plan = small_plan(grid={"method.name": ["sequential"], "data.tasks": [3]}, fixed=fixed)
    found = Expected(
        storage=tmp_path / "studies" / "small",
        token="abc",
        project=project_version(),
        packages=package_versions(),
        data=tuple(data_configs(plan)),
        storage_bytes=GIB,
    )
    found.folder.mkdir(parents=True)
    (found.folder / "driver").write_text("abc")
    return found


def only(expected: Expected, node: str = "") -> node_check.Problem:
    """The one problem of this node."""
    (problem,) = check(expected, node).problems
    return problem


def test_a_node_that_is_ready_answers_in_the_storage_and_prepares_the_data(
    expected: Expected, tmp_path: Path
) -> None:
    report = check(expected, "node1")
    assert report.problems == ()
    assert (expected.folder / "node1").read_text() == "abc"
    assert len(report.splits[expected.data[0]]) == 64
    assert list(report.warnings) == list(prepare(expected.data[0]).warnings) != []
    assert list((tmp_path / "cache").glob("npz_mine-*/images.bin"))


def test_a_storage_that_is_not_shared(expected: Expected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRCS_STORAGE", "/mnt/other")
    own = expected.storage.with_name("of_this_node")
    problem = only(replace(expected, storage=own))
    assert problem.check == "storage"
    assert problem.text == (
        f"{own} is another folder here than on the machine that drives the study: what was "
        "written there is not there."
    )
    assert problem.mend == (
        "mount the shared storage at the same path on every node, and name it on all of them: "
        "export LRCS_STORAGE=PATH (now '/mnt/other' here)"
    )
    assert not own.exists()


def test_a_storage_that_is_a_copy_or_cannot_be_written(
    expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ubuntu")
    (expected.folder / "node1").mkdir()
    problem = only(expected, "node1")
    assert problem.text == f"{expected.storage} cannot be read and written here: Is a directory."
    assert f"sudo chown -R ubuntu {expected.storage}" in problem.mend
    (expected.folder / "driver").write_text("of yesterday")
    assert "written there has 'of yesterday'." in only(expected).text


def test_another_project(expected: Expected) -> None:
    problem = only(replace(expected, project="0.0.9, source 123"))
    assert problem.text.startswith("the project must be the driver's (0.0.9, source 123), but ")
    assert problem.text.endswith(f"is {project_version()}.")
    assert problem.mend.startswith("ray up CLUSTER.yaml (")


def test_the_project_version_sees_every_source_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in provenance.SOURCES:
        (tmp_path / folder).mkdir()
    source = tmp_path / "trainables" / "source.py"
    source.write_text("a = 1")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "study/ledger/provenance.py"))
    before = project_version()
    source.write_text("a = 2")
    assert project_version() != before


def test_other_packages(expected: Expected) -> None:
    wanted = {**expected.packages, "timm": "0.1", "nothing": "1.0"}
    problem = only(replace(expected, packages=wanted))
    assert problem.text == (
        "packages must be the driver's (timm==0.1 nothing==1.0), but here are timm "
        f"{expected.packages['timm']}, nothing missing."
    )
    assert problem.mend == f"{sys.executable} -m pip install timm==0.1 nothing==1.0"
    # A CPU build and one for CUDA are the same version.
    assert "+" not in package_versions()["torch"]


def test_missing_data(expected: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRCS_DATA_ROOT", str(tmp_path / "nothing"))
    problem = only(expected)
    assert problem.check == "data"
    assert "the files of npz:mine must lie below data.root or $LRCS_DATA_ROOT" in problem.text
    assert "export LRCS_DATA_ROOT=FOLDER before `ray start` on that node" in problem.mend
    # The head of a cluster needs none where no trial runs on it.
    assert check(replace(expected, trials=False)).problems == ()


def test_data_of_another_split_or_damaged(expected: Expected, tmp_path: Path) -> None:
    config = replace(expected.data[0], split_sha256="0" * 64)
    problem = only(replace(expected, data=(config,)))
    assert problem.text.startswith(f"npz:mine must have the split {'0' * 64}, but here it has ")
    assert "--prepare (on that node)" in problem.mend
    (tmp_path / "data" / "mine.npz").write_text("no archive")
    problem = only(expected)
    assert problem.text.startswith("npz:mine cannot be prepared: ")
    assert problem.mend == f"{sys.executable} -m study.run STUDY.yaml --prepare (on that node)"


def test_a_full_disk(expected: Expected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0.5 * GIB))
    storage, cache = check(expected).problems
    assert storage.text == f"{expected.storage} must have 1.0 GiB free, but has 0.5."
    assert storage.mend.endswith("or name another disk in LRCS_STORAGE")
    assert "cache must have 2.0 GiB free, but has 0.5." in cache.text
    assert cache.mend.endswith("or name another disk in LRCS_CACHE_ROOT")
    assert check(replace(expected, skip=frozenset(["disk"]))).problems == ()


@pytest.mark.parametrize(
    ("prints", "code", "text", "mend"),
    [
        ("2.13.0+cpu 0", 0, "torch must see 2 GPUs, but torch 2.13.0+cpu sees 0.", "torch==2.13.0"),
        ("2.13.0 1", 0, "torch must see 2 GPUs, but torch 2.13.0 sees 1.", "nvidia-smi"),
        ("", 1, "torch cannot be imported: ImportError: libcudart.", "import torch"),
    ],
)
def test_gpus_that_torch_does_not_see(
    expected: Expected,
    monkeypatch: pytest.MonkeyPatch,
    prints: str,
    code: int,
    text: str,
    mend: str,
) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        # Ray hides all GPUs from a task that was given none.
        assert "CUDA_VISIBLE_DEVICES" not in options["env"]
        return subprocess.CompletedProcess(command, code, prints + "\n", "ImportError: libcudart\n")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(subprocess, "run", run)
    problem = only(replace(expected, gpus=2))
    assert problem.text == text
    assert mend in problem.mend
    assert check(replace(expected, gpus=0)).problems == ()


@pytest.mark.parametrize("planted", ["nothing", "a link", "open to all", "another's"])
def test_that_a_node_is_ready_is_remembered_in_a_folder_of_ones_own(
    planted: str, expected: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (victim := tmp_path / "victim").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"lrcs-nodes-{os.geteuid()}"
    if planted == "a link":
        folder.symlink_to(victim)
    elif planted != "nothing":
        folder.mkdir()
        # It would say that the node is ready.
        (folder / "abc-node1").touch()
        if planted == "another's":
            give_away(folder)
        else:
            folder.chmod(0o777)
    asked: list[str] = []
    found = check(expected, "node1")

    def answer(_: Expected, node: str) -> node_check.NodeReport:
        asked.append(node)
        return found

    monkeypatch.setattr(node_check, "check", answer)
    assert [check_and_remember(expected, "node1").problems for _ in range(2)] == [(), ()]
    assert len(asked) == (1 if planted == "nothing" else 2)
    assert not any(victim.iterdir())
