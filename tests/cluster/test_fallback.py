"""cluster/spot_first.py in Ray's own scheduler, with the node types of cluster/gpu.yaml."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.node_provider_availability_tracker import (
    NodeAvailabilityRecord,
    NodeAvailabilitySummary,
)
from ray.autoscaler._private.resource_demand_scheduler import ResourceDemandScheduler

ROOT = Path(__file__).parents[2]


class NoNodes:
    """A cloud in which nothing runs yet but the head."""

    def node_tags(self, node: str) -> dict[str, str]:
        return {"ray-node-type": "head", "ray-user-node-type": "head"}


def started(refused: dict[str, bool], trials: int, running: int = 0) -> dict[str, int]:
    """The nodes that Ray would start for trials of a GPU each, by type."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster/gpu.yaml").read_text("utf-8"))
    scheduler = ResourceDemandScheduler(
        NoNodes(),
        config["available_node_types"],
        config["max_workers"],
        "head",
        config["upscaling_speed"],
    )
    summary = NodeAvailabilitySummary(
        {name: NodeAvailabilityRecord(name, not one, 0.0, None) for name, one in refused.items()}
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
    monkeypatch.setattr(NoNodes, "internal_ip", lambda self, node: "10.0.0.1", raising=False)


def test_spot_first() -> None:
    assert started({}, trials=3) == {"gpu_spot": 3}


def test_on_demand_where_spot_is_refused() -> None:
    assert started({"gpu_spot": True}, trials=1) == {"gpu_on_demand": 1}


def test_no_more_on_demand_than_the_file_allows() -> None:
    assert started({"gpu_spot": True}, trials=3)["gpu_on_demand"] == 2


def test_spot_again_once_the_refusal_is_old() -> None:
    assert started({"gpu_spot": False}, trials=1) == {"gpu_spot": 1}


def test_without_it_ray_asks_for_spot_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTOSCALER_UTILIZATION_SCORER")
    assert started({"gpu_spot": True}, trials=1) == {"gpu_spot": 1}
