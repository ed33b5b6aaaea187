"""The line a person types, on hosts made here: ray up, ray submit, lost nodes, ray down."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from study.ledger import Record, read_ledger
from tests.cluster.hosts import Hosts, why_not
from tests.cluster.launcher import HEAD, PROJECT, WORKERS, Cluster, Submitted
from tests.study.each_once import check_each_once
from tests.study.test_kills import PARALLEL

pytestmark = pytest.mark.cluster

# Each trial has a worker to itself.
SMALL: dict[str, Any] = {
    **PARALLEL,
    "name": "small",
    "grid": {"method.name": ["sequential"], "data.tasks": [2]},
    "search": {"sequential": {"optim.lr": {"choices": [0.001, 0.01]}}},
    "seeds": [0, 1],
    "resources": {"cpu": 1, "gpu": 1},
}
# Tasks of a second or two, so that what is lost is in the middle of something.
LONG: dict[str, Any] = {
    **SMALL,
    "name": "long",
    "grid": {"method.name": ["sequential"], "data.tasks": [4]},
    "fixed": {**PARALLEL["fixed"], "data.train_per_class": 200, "optim.epochs": 150},
    "seeds": [0, 1, 2],
}
KILLED, UNPLUGGED = WORKERS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that is up; its first study also tells how long that took."""
    if (reason := why_not()) is not None:
        pytest.skip(f"a cluster of several hosts {reason}")
    visible = [Path(sys.prefix), Path(sys.base_prefix), PROJECT]
    hosts = Hosts(tmp_path_factory.mktemp("hosts"), 1 + len(WORKERS), visible)
    try:
        cluster = Cluster(hosts)
        cluster.up()
        yield cluster
    finally:
        hosts.close()


def test_a_study_runs_on_the_workers_and_mlflow_on_the_head_has_every_run(
    cluster: Cluster,
) -> None:
    submitted = cluster.submit(SMALL)
    submitted.wait_until(lambda records: any(one["kind"] == "task" for one in records))
    first = next(one for one in submitted.records() if one["kind"] == "task")
    print(f"first task {first['time'] - cluster.began:.0f} s after ray up")  # noqa: T201
    print(f"{cluster.hosts.memory() / 2**30:.1f} GiB")  # noqa: T201
    assert not any("ContinualTrainable" in one for one in cluster.hosts.running(HEAD))
    submitted.finish()
    _check_complete(cluster, submitted, SMALL)


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
    cluster.hosts.unplug(UNPLUGGED)
    submitted.finish()
    _check_complete(cluster, submitted, LONG)
    assert any("raylet" in one for one in cluster.hosts.running(KILLED))


def test_what_is_taken_down_leaves_no_process(cluster: Cluster) -> None:
    cluster.hosts.plug(UNPLUGGED)
    cluster.down()
    end = time.monotonic() + 20
    while left := [one for host in (HEAD, *WORKERS) for one in cluster.hosts.running(host)]:
        assert time.monotonic() < end, left
        time.sleep(0.5)


def _check_complete(cluster: Cluster, submitted: Submitted, study: dict[str, Any]) -> None:
    """Every planned trial is there once, in the ledger and on the server of MLflow."""
    said, records = submitted.said(), read_ledger(submitted.ledger)
    assert "Traceback" not in said, said
    check_each_once(records, study)
    items = ["study", *(one["cell"] for one in records if one["kind"] == "cell")]
    items += [one["trial"] for one in records if one["kind"] == "trial"]
    runs = cluster.runs(study["name"])
    assert sorted(item for item, _ in runs) == sorted(items)
    assert {status for _, status in runs} == {"FINISHED"}


def _in_the_middle(records: list[Record]) -> set[str]:
    """The running trials that have learned something, but not all."""
    learned = {one["trial"] for one in records if one["kind"] == "task"}
    return learned - _ended(records)


def _ended(records: list[Record]) -> set[str]:
    return {one["trial"] for one in records if one["kind"] == "end"}
