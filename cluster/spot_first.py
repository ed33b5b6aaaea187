"""Which type of node Ray's autoscaler starts: spot first, on demand where spot is refused.

Neither autoscaler of Ray 2.60 falls back by itself where a cloud refuses a node for want of room:
version 2 takes notice only of nodes that were granted and never ran, and version 1 knows of
refusals (on AWS) but does not weigh them. Version 1 takes another way of weighing:
`RAY_AUTOSCALER_UTILIZATION_SCORER=spot_first.score`, with this folder on PYTHONPATH.
"""

from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer

Resources = dict[str, int | float]


def score(
    node_resources: Resources,
    resources: list[Resources],
    node_type: str,
    *,
    node_availability_summary: NodeAvailabilitySummary,
) -> tuple[float, ...] | None:
    """Ray's own score, below it whether the last start was granted, below that spot before others.

    Returns None for a type that fits nothing that is asked for. A refusal counts for half an hour.
    """
    usual = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if usual is None:
        return None
    record = node_availability_summary.node_availabilities.get(node_type)
    granted = record is None or record.is_available
    return (*usual, granted, "spot" in node_type)
