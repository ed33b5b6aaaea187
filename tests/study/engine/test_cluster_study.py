"""Studies on a Ray cluster of several nodes, which are processes of this machine."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import run
from study.ledger import read_ledger
from tests.study.small_study import write_npz

pytestmark = [pytest.mark.process, pytest.mark.nightly]

SCRIPT = Path(run.__file__)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder with a short name, for Ray's sockets, with a home, data and a study file."""
    folder = Path(tempfile.mkdtemp(prefix="lrcs-", dir="/tmp"))
    for name in ("home", "data", "nothing", "storage", "ray"):
        (folder / name).mkdir()
    study = {
        "name": "small",
        "question": "Does it run?",
        "grid": {"method.name": ["sequential"], "data.tasks": [3]},
        "fixed": write_npz(folder / "data"),
        "trials": 2,
        "seeds": [0],
        "resources": {"cpu": 1},
        "tracking": "none",
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Any]:
    """A head without CPUs and one worker."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for key, value in _environment(place).items():
            patch.setenv(key, value)
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": str(place / "ray")}
        cluster = Cluster(initialize_head=True, head_node_args={**head, "node_name": "head"})
        try:
            cluster.add_node(num_cpus=1, node_name="worker-1")
            yield cluster
        finally:
            cluster.shutdown()


def _environment(place: Path) -> dict[str, str]:
    return {
        "HOME": str(place / "home"),
        "RAY_AUTH_MODE": "disabled",
        # Where the cluster notes its address, in the folder `ray`, which has to be there.
        "RAY_TMPDIR": str(place),
        "RAY_object_store_memory": str(100 * 2**20),
        "LRCS_DATA_ROOT": str(place / "data"),
        "LRCS_CACHE_ROOT": str(place / "cache"),
        "LRCS_STORAGE": str(place / "storage"),
    }


def study_on(cluster: Any, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **_environment(place), "RAY_ADDRESS": cluster.address}
    command = [sys.executable, str(SCRIPT), str(place / "small.yaml"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_node_without_the_data_is_named_before_the_first_trial(cluster: Any, place: Path) -> None:
    elsewhere = {"LRCS_DATA_ROOT": str(place / "nothing")}
    node = cluster.add_node(num_cpus=1, node_name="worker-2", env_vars=elsewhere)
    try:
        done = study_on(cluster, place, "--output", str(place / "storage" / "refused"))
    finally:
        cluster.remove_node(node)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "with 3 nodes, 2 CPUs and 0 GPUs now" in done.stdout
    assert "every node must pass the check before a study starts, but worker-2 (" in done.stderr
    assert "data: the files of npz:mine must lie below data.root" in done.stdout
    assert "export LRCS_DATA_ROOT=FOLDER before `ray start` on that node" in done.stdout
    records = read_ledger(place / "storage" / "refused" / "ledger.jsonl")
    assert not [record for record in records if record["kind"] == "trial"]


def test_a_study_runs_over_the_nodes(cluster: Any, place: Path) -> None:
    cluster.add_node(num_cpus=1, node_name="worker-3")
    done = study_on(cluster, place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every node is ready: head (" in done.stdout
    # Its folder is below LRCS_STORAGE.
    output = (place / "storage" / "studies" / "latest").resolve()
    records = read_ledger(output / "ledger.jsonl")
    ends = [record["status"] for record in records if record["kind"] == "end"]
    assert ends == ["completed"] * 3
