"""cluster/spot_first.py in Ray's own scheduler, with the node types of cluster/gpu.yaml."""

import pytest
from ray.autoscaler._private.node_provider_availability_tracker import (
    NodeAvailabilityRecord,
    NodeAvailabilitySummary,
)
from ray.autoscaler._private.resource_demand_scheduler import ResourceDemandScheduler

from tests.cluster.test_files import ROOT, load


class NoNodes:
    """A cloud in which nothing runs yet but the head."""

    def node_tags(self, node: str) -> dict[str, str]:
        return {"ray-node-type": "head", "ray-user-node-type": "head"}

    def internal_ip(self, node: str) -> str:
        return "10.0.0.1"


def started(refused: dict[str, bool], trials: int) -> dict[str, int]:
    """The nodes that Ray would start for trials of a GPU each, by type."""
    config = load("gpu")
    scheduler = ResourceDemandScheduler(
        NoNodes(),
        config["available_node_types"],
        config["max_workers"],
        "head",
        config["upscaling_speed"],
    )
    summary = NodeAvailabilitySummary(
        {name: NodeAvailabilityRecord(name, not no, 0.0, None) for name, no in refused.items()}
    )
    wanted, _ = scheduler.get_nodes_to_launch(
        nodes=["head"],
        launching_nodes={},
        resource_demands=[{"CPU": 1, "GPU": 1}] * trials,
        unused_resources_by_ip={},
        pending_placement_groups=[],
        max_resources_by_ip={},
        ensure_min_cluster_size=[],
        node_availability_summary=summary,
    )
    return {name: count for name, count in wanted.items() if count}


@pytest.fixture(autouse=True)
def _own_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "cluster"))
    monkeypatch.setenv("RAY_AUTOSCALER_UTILIZATION_SCORER", "spot_first.score")


@pytest.mark.parametrize(
    ("refused", "trials", "nodes"),
    [
        ({}, 3, {"gpu_spot": 3}),
        ({"gpu_spot": True}, 1, {"gpu_on_demand": 1}),
        # No more than the file allows, and the third waits for spot.
        ({"gpu_spot": True}, 3, {"gpu_on_demand": 2, "gpu_spot": 1}),
        # The refusal is old.
        ({"gpu_spot": False}, 1, {"gpu_spot": 1}),
    ],
)
def test_spot_comes_first_and_on_demand_where_it_is_refused(
    refused: dict[str, bool], trials: int, nodes: dict[str, int]
) -> None:
    assert started(refused, trials) == nodes


def test_without_it_ray_asks_for_spot_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTOSCALER_UTILIZATION_SCORER")
    assert started({"gpu_spot": True}, trials=1) == {"gpu_spot": 1}
