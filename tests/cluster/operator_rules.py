"""What KubeRay's operator refuses beside what its definition does, and what goes wrong silently.

Facts of ray-operator/controllers/ray/utils/validation.go of ray-project/kuberay at commit
0074504f84f22d26df800ebcd2e0a3e1490e2aef. Only rules that a manifest of this project could break.
"""

from collections.abc import Iterator
from typing import Any

Spec = dict[str, Any]
SUBMISSION_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
# Of rayStartParams: what `resources` of the group says instead.
RESOURCE_PARAMETERS = ("num-cpus", "num-gpus", "memory", "resources")


def cluster(spec: Spec) -> Iterator[str]:
    """Rules of a RayCluster's specification."""
    groups = {"headGroupSpec": spec["headGroupSpec"]}
    groups |= {f"workerGroupSpecs.{i}": one for i, one in enumerate(spec["workerGroupSpecs"])}
    scaled = bool(spec.get("enableInTreeAutoscaling"))
    # Only where it is said (IsAutoscalingV2Enabled in util.go), whatever Ray's own default is.
    second = scaled and spec.get("autoscalerOptions", {}).get("version") == "v2"
    for key, group in groups.items():
        start, pod = group.get("rayStartParams", {}), group["template"]["spec"]
        if group.get("resources") and any(one in start for one in RESOURCE_PARAMETERS):
            yield f"{key}.resources: must not be given beside those of rayStartParams"
        if "labels" in start:
            yield f"{key}.rayStartParams.labels: must be in {key}.labels"
        if second and pod.get("restartPolicy", "Never") != "Never":
            yield f"{key}.template.spec.restartPolicy: must be Never for autoscaler v2"
        if scaled and group.get("suspend"):
            yield f"{key}.suspend: must not be with the autoscaler"
        if group.get("minReplicas", 0) > group.get("maxReplicas", 2**31 - 1):
            yield f"{key}.minReplicas: must be at most maxReplicas"


def job(spec: Spec) -> Iterator[str]:
    """Rules of a RayJob's specification."""
    mode = spec.get("submissionMode", SUBMISSION_MODES[0])
    if mode not in SUBMISSION_MODES:
        yield f"submissionMode: must be one of {SUBMISSION_MODES}, but is {mode}"
    if not spec.get("clusterSelector") and "rayClusterSpec" not in spec:
        yield "clusterSelector: or rayClusterSpec must be given"
    if spec.get("clusterSelector"):
        if mode == "SidecarMode":
            yield "submissionMode: must not be SidecarMode with a clusterSelector"
        if spec.get("backoffLimit", 0) > 0:
            yield "backoffLimit: must be 0 with a clusterSelector"
        if spec.get("suspend"):
            yield "suspend: must not be with a clusterSelector"
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished: must be 0 without shutdownAfterJobFinishes"
    for key, least in (("activeDeadlineSeconds", 1), ("backoffLimit", 0)):
        if spec.get(key, least) < least:
            yield f"{key}: must be at least {least}, but is {spec[key]}"
