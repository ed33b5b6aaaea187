"""The line a person types, on hosts made here: ray up, ray submit, lost nodes, ray down."""

import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from study.ledger.ledger import Record, read_ledger
from tests.cluster.host_stages import address
from tests.cluster.hosts import Hosts, why_not
from tests.cluster.launcher import HEAD, PROJECT, WORKERS, Cluster, Submitted
from tests.study.engine.each_once import check_each_once
from tests.study.engine.test_kills import PARALLEL

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.process]

# Each trial has a worker to itself.
SMALL: dict[str, Any] = {
    **PARALLEL,
    "name": "small",
    "tracking": "mlflow",
    "grid": {"method.name": ["sequential"], "data.tasks": [2]},
    "search": {"sequential": {"optim.lr": {"choices": [0.001, 0.01]}}},
    "seeds": [0, 1],
    "resources": {"cpu": 1, "gpu": 1},
}
# Tasks of some seconds also on idle cores, so that what is lost is in the middle of something.
LONG: dict[str, Any] = {
    **SMALL,
    "name": "long",
    "grid": {"method.name": ["sequential"], "data.tasks": [4]},
    "fixed": {**PARALLEL["fixed"], "data.train_per_class": 200, "optim.epochs": 450},
    "seeds": [0, 1, 2],
}
CRASHED: dict[str, Any] = {**LONG, "name": "crashed", "seeds": [0, 1]}
# Of images in a file, which every node that runs trials needs.
OF_FILES: dict[str, Any] = {
    **SMALL,
    "name": "files",
    "fixed": {key: value for key, value in SMALL["fixed"].items() if not key.startswith("data.")}
    | {"data.name": "npz:mine", "data.image_size": 8},
}
IMAGES = """
import numpy, pathlib
images, labels = numpy.zeros((60, 8, 8), numpy.uint8), numpy.arange(60) % 4
images += (60 * labels[:, None, None]).astype(numpy.uint8)
numpy.savez(pathlib.Path("~/lrcs-data/mine.npz").expanduser(), images=images, labels=labels)
"""
CHANGED = "study/ledger/labels.py"
KILLED, UNPLUGGED = WORKERS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that is up; its first study also tells how long that took."""
    if (reason := why_not()) is not None:
        pytest.skip(f"for want of hosts: {reason}")
    visible = [Path(sys.prefix), Path(sys.base_prefix), PROJECT]
    hosts = Hosts(tmp_path_factory.mktemp("hosts"), 1 + len(WORKERS), visible)
    try:
        cluster = Cluster(hosts)
        cluster.up()
        yield cluster
    finally:
        hosts.close()
    assert not [pid for pid in hosts._pids.values() if Path(f"/proc/{pid}").exists()]


def test_a_study_runs_on_the_workers_and_mlflow_on_the_head_has_every_run(
    cluster: Cluster, record_testsuite_property: Callable[[str, object], None]
) -> None:
    submitted = cluster.submit(SMALL)
    submitted.wait_until(lambda records: any(record["kind"] == "task" for record in records))
    first = next(record for record in submitted.records() if record["kind"] == "task")
    # In the report of pytest --junitxml=FILE, and what README.md says of times.
    record_testsuite_property("ray up, seconds", cluster.up_seconds)
    record_testsuite_property(
        "from ray up to the first task, seconds", first["time"] - cluster.began
    )
    record_testsuite_property("memory, GiB", cluster.hosts.memory() / 2**30)
    listening = cluster.at(HEAD, "ss -Hltn")
    for port in (5000, 8265):
        assert set(re.findall(rf"(\S+):{port}\s", listening)) == {"127.0.0.1"}, listening
    assert not any("ContinualTrainable" in line for line in cluster.hosts.running(HEAD))
    submitted.finish()
    _check_complete(cluster, submitted, SMALL)


def test_what_is_wrong_with_each_node_is_told_before_the_first_trial(cluster: Cluster) -> None:
    cluster.wait_for_gpus(2)
    wrong, without = WORKERS
    for host in (HEAD, wrong):
        cluster.at(host, f"mkdir -p ~/lrcs-data && python -c {shlex.quote(IMAGES)}")
    # A folder of its own where the others share one, little room, and another source.
    own = f"mount -t tmpfs none {cluster.hosts.shared}"
    small = "mkdir -p ~/lrcs-cache && mount -t tmpfs -o size=64m none ~/lrcs-cache"
    cluster.at(wrong, f"{own} && {small} && echo '#' >> ~/lrcs/{CHANGED}")
    try:
        submitted = cluster.submit(OF_FILES)
        submitted.lose()
    finally:
        cluster.at(wrong, f"umount {cluster.hosts.shared} ~/lrcs-cache")
    said = " ".join(submitted.said().split())
    assert "Nodes of the cluster" in said and "does not come to the machine" not in said
    for host, check, text in (
        (wrong, "storage", "is another folder here than on the machine that drives the study"),
        (wrong, "storage", "mount the shared storage at the same path on every node"),
        (wrong, "project", "the project must be the driver's"),
        (wrong, "disk", "lrcs-cache must have 2.0 GiB free, but has 0.1."),
        (without, "data", "the files of npz:mine must lie below data.root"),
    ):
        assert re.search(rf"host{host} \({address(host)}, \w+\), {check}: [^:]*", said), said
        assert text in said, said
    assert f"host{HEAD} (" not in said.split("every node must pass the check")[1]
    assert submitted.ledger.exists()
    assert not any(record["kind"] == "trial" for record in submitted.records())
    # What it says of the project mends it: new source, which has come nowhere yet.
    assert "mend it: ray up CLUSTER.yaml (brings the project's files to all nodes" in said
    changed = cluster.source / CHANGED
    changed.write_text(changed.read_text(encoding="utf-8") + "# new\n", encoding="utf-8")
    cluster.up()
    cluster.wait_for_gpus(2)
    for host in (HEAD, *WORKERS):
        cluster.at(host, f"cmp {changed} ~/lrcs/{CHANGED}")


def test_a_study_goes_on_after_the_head_has_crashed(cluster: Cluster) -> None:
    cluster.wait_for_gpus(2)
    submitted = cluster.submit(CRASHED)
    submitted.wait_until(lambda records: bool(_in_the_middle(records)) and bool(_ended(records)))
    assert cluster.hosts.crash(HEAD) > 0
    submitted.lose()
    before = read_ledger(submitted.ledger)
    assert not any(record["kind"] == "finished" for record in before)
    # A head without its cluster does not train by itself.
    early = cluster.resume(CRASHED)
    early.lose()
    assert "no Ray cluster runs on this machine. Start it again" in " ".join(early.said().split())
    cluster.up()
    resumed = cluster.resume(CRASHED)
    resumed.finish()
    _check_complete(cluster, resumed, CRASHED)
    # What had ended is not done again, and it is the same folder.
    after = read_ledger(resumed.ledger)
    assert after[: len(before)] == before


def test_a_study_ends_complete_though_one_worker_is_killed_and_another_unplugged(
    cluster: Cluster,
) -> None:
    cluster.wait_for_gpus(2)
    submitted = cluster.submit(LONG)
    submitted.wait_until(lambda records: len(_in_the_middle(records)) == 2)
    assert cluster.hosts.kill(KILLED, "/raylet/raylet ") == 1
    hit = _in_the_middle(submitted.records())
    # The killed worker's trial goes on elsewhere: it takes half a minute to come back.
    submitted.wait_until(lambda records: hit <= _ended(records))
    submitted.wait_until(lambda records: bool(_in_the_middle(records)))
    cluster.hosts.set_card(UNPLUGGED, "down")
    submitted.finish()
    _check_complete(cluster, submitted, LONG)
    assert any("raylet" in line for line in cluster.hosts.running(KILLED))


def test_what_is_taken_down_leaves_no_process(cluster: Cluster) -> None:
    cluster.hosts.set_card(UNPLUGGED, "up")
    cluster.down()
    end = time.monotonic() + 20
    while left := [line for host in (HEAD, *WORKERS) for line in cluster.hosts.running(host)]:
        assert time.monotonic() < end, left
        time.sleep(0.5)


def _check_complete(cluster: Cluster, submitted: Submitted, study: dict[str, Any]) -> None:
    """Every planned trial is there once, in the ledger and on the server of MLflow."""
    said, records = submitted.said(), read_ledger(submitted.ledger)
    assert "Traceback" not in said, said
    check_each_once(records, study)
    items = ["study", *(record["cell"] for record in records if record["kind"] == "cell")]
    items += [record["trial"] for record in records if record["kind"] == "trial"]
    runs = cluster.runs(study["name"])
    assert sorted(item for item, _ in runs) == sorted(items)
    assert {status for _, status in runs} == {"FINISHED"}


def _in_the_middle(records: list[Record]) -> set[str]:
    """The running trials that have learned something, but not all."""
    learned = {record["trial"] for record in records if record["kind"] == "task"}
    return learned - _ended(records)


def _ended(records: list[Record]) -> set[str]:
    return {record["trial"] for record in records if record["kind"] == "end"}
