"""The parts of a cluster file that each cloud reads for itself: Ray passes them on unread."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate
import ray

Config = dict[str, Any]
SOURCES = Path(ray.__file__).parent / "autoscaler/_private"
# The folder of each provider's source in Ray, and the keys of `provider` that it reads.
FOLDERS = {"aws": "aws", "gcp": "gcp", "azure": "_azure", "local": "local"}
KEYS: dict[str, set[str]] = {
    "aws": {
        "region",
        "availability_zone",
        "cache_stopped_nodes",
        "security_group",
        "use_internal_ips",
        "key_pair",
    },
    "gcp": {"region", "availability_zone", "cache_stopped_nodes", "project_id", "use_internal_ips"},
    "azure": {
        "location",
        "resource_group",
        "subscription_id",
        "availability_zone",
        "cache_stopped_nodes",
        "tags",
        "subnet_mask",
        "unique_id",
        "msi_name",
        "msi_resource_group",
        "use_internal_ips",
        "use_external_head_ip",
    },
    "local": {"head_ip", "worker_ips", "external_head_ip"},
}
# Of these the provider's folder says nothing, but Ray's code beside it.
ELSEWHERE = {"use_internal_ips", "external_head_ip", "cache_stopped_nodes"}
REQUIRED = {
    "aws": {"region"},
    "gcp": {"region", "availability_zone", "project_id"},
    "azure": {"location", "resource_group", "subscription_id"},
    "local": {"head_ip", "worker_ips"},
}
# Fields of an instance in Google's Compute API that make sense here.
GCP_FIELDS = {
    "machineType",
    "disks",
    "metadata",
    "scheduling",
    "guestAccelerators",
    "networkInterfaces",
    "serviceAccounts",
    "tags",
    "labels",
    "minCpuPlatform",
}
GCP_SCHEDULING = {
    "provisioningModel",
    "instanceTerminationAction",
    "onHostMaintenance",
    "automaticRestart",
    "preemptible",
}


def unknown_keys(config: Config) -> Iterator[str]:
    """Keys of `provider` that nothing reads, and those that are missing."""
    provider = config["provider"]
    kind = provider.get("type")
    if kind not in KEYS:
        yield f"provider.type: must be one of {sorted(KEYS)}, but is {kind}"
        return
    for key in provider.keys() - KEYS[kind] - {"type"}:
        yield f"provider.{key}: is not known for {kind}, only {sorted(KEYS[kind])}"
    for key in REQUIRED[kind] - provider.keys():
        yield f"provider.{key}: must be given for {kind}"


def ingress(config: Config) -> Iterator[str]:
    """Rules of a security group beyond the ssh that Ray itself lets in."""
    group = config["provider"].get("security_group", {})
    for rule in group.get("IpPermissions", []):
        if (rule.get("FromPort"), rule.get("ToPort")) != (22, 22):
            yield f"provider.security_group.IpPermissions: only ssh may be let in, not {rule}"


def is_spot(kind: str, node: Config) -> bool:
    """Whether nodes of this `node_config` can be taken back by the cloud."""
    if kind == "aws":
        return bool(node.get("InstanceMarketOptions", {}).get("MarketType") == "spot")
    if kind == "gcp":
        return bool(node.get("scheduling", {}).get("provisioningModel") == "SPOT")
    return bool(node.get("azure_arm_parameters", {}).get("priority") == "Spot")


def node_configs(config: Config) -> Iterator[str]:
    """Fields of each node_config that the cloud does not know."""
    kind = config["provider"].get("type")
    for name, one in config.get("available_node_types", {}).items():
        key, node = f"available_node_types.{name}.node_config", one["node_config"]
        if kind == "aws":
            yield from (f"{key}: {line}" for line in _aws(node))
        elif kind == "azure":
            yield from (f"{key}.azure_arm_parameters.{line}" for line in _azure(node))
        elif kind == "gcp":
            yield from (f"{key}.{line}" for line in _gcp(node))


@functools.cache
def _run_instances() -> Any:
    model = botocore.session.get_session().get_service_model("ec2")
    return model.operation_model("RunInstances").input_shape


def _aws(node: Config) -> Iterator[str]:
    """Against the request that the AWS SDK would send."""
    shape = _run_instances()
    for key in node.keys() - shape.members.keys() - {"SubnetIds"}:
        yield f"{key} is not a parameter of RunInstances"
    request = {"MinCount": 1, "MaxCount": 1, **node}
    report = botocore.validate.ParamValidator().validate(request, shape)
    if report.has_errors():
        yield from report.generate_report().splitlines()
    if not str(node.get("ImageId", "")).startswith("ami-"):
        yield f"ImageId must be an AMI (Ray's own default is of 2018), but is {node.get('ImageId')}"


def _azure(node: Config) -> Iterator[str]:
    """Against the template that Ray fills in."""
    template = json.loads((SOURCES / "_azure/azure-vm-template.json").read_text(encoding="utf-8"))
    types = {"string": str, "int": int, "bool": bool, "object": dict, "array": list}
    parameters = template["parameters"]
    for key, value in node.get("azure_arm_parameters", {}).items():
        if key == "availability_zone":
            continue
        if key not in parameters:
            yield f"{key}: is not a parameter of Ray's template, only {sorted(parameters)}"
        elif not isinstance(value, types[parameters[key]["type"]]):
            yield f"{key}: must be of type {parameters[key]['type']}, but is {value!r}"


def _gcp(node: Config) -> Iterator[str]:
    for key in node.keys() - GCP_FIELDS:
        yield f"{key}: is not known, only {sorted(GCP_FIELDS)}"
    for key in node.get("scheduling", {}).keys() - GCP_SCHEDULING:
        yield f"scheduling.{key}: is not known, only {sorted(GCP_SCHEDULING)}"
    gpu = node.get("machineType", "").startswith(("g2", "a2", "a3")) or "guestAccelerators" in node
    if gpu and node.get("scheduling", {}).get("onHostMaintenance") != "TERMINATE":
        yield "scheduling.onHostMaintenance: must be TERMINATE for a machine with a GPU"
