"""The KubeRay manifest: right as it is, and each mistake named when made."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cluster.manifest_checks import DATA, mistakes, schemas, wrong_fields

FILE = Path(__file__).parents[2] / "cluster/kuberay.yaml"


def test_nothing_is_wrong() -> None:
    assert mistakes(FILE) == []


def test_the_schemas_are_sound_and_name_their_sources() -> None:
    merged = schemas()
    jsonschema.Draft202012Validator.check_schema(merged)
    for reference in re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(merged)):
        assert reference in merged["$defs"]
    text = (DATA / "kuberay-fields.yaml").read_text("utf-8")
    assert "at commit\n#   12cb11e48d1a375a19b771ec53c3b0023d189d4e" in text
    assert "This is NOT the file itself" in text
    comment = json.loads((DATA / "kubernetes-fields.json").read_text("utf-8"))["$comment"]
    assert comment.startswith("Kubernetes 1.34.0: ") and "Apache License 2.0" in comment


def ray_job(**spec: Any) -> dict[str, Any]:
    metadata, spec = {"name": "a"}, {"clusterSelector": {"ray.io/cluster": "b"}, **spec}
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}


RULE = {"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED"}}
BOTH = {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}
POLICY = {"policy": "DeleteNone"}


@pytest.mark.parametrize(
    "strategy",
    [
        {},
        {"onSuccess": POLICY},
        {"onSuccess": POLICY, "onFailure": {"policy": "Delete"}},
        {"onSuccess": POLICY, "onFailure": POLICY, "deletionRules": [RULE]},
        {"deletionRules": []},
        {"deletionRules": [{"policy": "DeleteSelf"}]},
        {"deletionRules": [{**RULE, "condition": {}}]},
        {"deletionRules": [{**RULE, "condition": BOTH}]},
        {"deletionRules": [{**RULE, "condition": {"jobStatus": "FAILED", "ttlSeconds": -1}}]},
    ],
)
def test_what_the_definitions_rules_refuse(strategy: dict[str, Any]) -> None:
    for right in ({"deletionRules": [RULE]}, {"onSuccess": POLICY, "onFailure": POLICY}):
        assert list(wrong_fields(ray_job(deletionStrategy=right))) == []
    assert list(wrong_fields(ray_job(deletionStrategy=strategy))) != []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("managedBy", "me"),
        ("activeDeadlineSeconds", 2**31),
        ("entrypointNumCpus", "1"),
        ("metadata", {"a": 1}),
        ("submitterConfig", {"backOffLimit": 1}),
        ("rayClusterSpec", {}),
    ],
)
def test_a_wrong_value_of_a_job_is_refused(key: str, value: Any) -> None:
    (found,) = wrong_fields(ray_job(**{key: value}))
    assert found.startswith(f"spec.{key}")


BROKEN = [
    ("  rayVersion:", "  rayVerion:", "RayCluster.spec: Additional properties"),
    ("maxReplicas: 4 ", "maxReplicas: four ", "RayCluster.spec.workerGroupSpecs.0.maxReplicas"),
    ("maxReplicas: 4 ", "maxReplicas: 40 ", "workerGroupSpecs.0.maxReplicas: must be in [1, 4]"),
    ("minReplicas: 0", "minReplicas: 2", "workerGroupSpecs.0.replicas: and minReplicas must be 0"),
    ('num-cpus: "0"', "num-cpus: 0", "headGroupSpec.rayStartParams.num-cpus: 0 is not of type"),
    ('num-gpus: "0"', 'num-gpus: "1"', "num-gpus: the head must have no GPU"),
    ("ClusterIP", "LoadBalancer", "headGroupSpec.serviceType: must be ClusterIP"),
    ("upscalingMode: Default", "upscalingMode: Fast", "autoscalerOptions.upscalingMode: 'Fast'"),
    ("idleTimeoutSeconds: 600", "idleTimeoutSeconds: 0", "idleTimeoutSeconds: must be in"),
    ("enableInTreeAutoscaling: true", "enableInTreeAutoscaling: false", "enableInTreeAutoscal"),
    ("    version: v2\n", "", "autoscalerOptions.version: must be v2, said aloud"),
    ("submissionMode: K8sJobMode", "submissionMode: K8sJob", "RayJob.spec.submissionMode: must"),
    ("submissionMode: K8sJobMode", "submissionMode: SidecarMode", "must not be SidecarMode with"),
    ("submissionMode: K8sJobMode", "backoffLimit: 1", "RayJob.spec.backoffLimit: must be 0 with"),
    ("submissionMode: K8sJobMode", "suspend: true", "RayJob.spec.suspend: must not be with a"),
    ("submissionMode: K8sJobMode", "ttlSecondsAfterFinished: 9", "must be 0 without shutdown"),
    ("submissionMode: K8sJobMode", "activeDeadlineSeconds: 0", "must be at least 1, but is"),
    ("submissionMode: K8sJobMode", "backoffLimit: -1", "backoffLimit: must be at least 0, but is"),
    ("clusterSelector: {ray.io/cluster: lrcs}", "clusterSelector: {}", "or rayClusterSpec must be"),
    ("minReplicas: 0", "minReplicas: 9", "workerGroupSpecs.0.minReplicas: must be at most maxRep"),
    ("submissionMode: K8sJobMode", "backoffLimit: two", "spec.backoffLimit: 'two' is not of type"),
    ("    serviceType: ClusterIP", "    resources: {CPU: '0'}", "resources: must not be given b"),
    ('      num-cpus: "0"', '      labels: "a=b"', "rayStartParams.labels: must be in headGroup"),
    ("          volumes: *volumes", "          restartPolicy: Always", "must be Never for"),
    ("      replicas: 0", "      suspend: true", "workerGroupSpecs.0.suspend: must not be with"),
    ("effect: NoSchedule", "efect: NoSchedule", "tolerations.0: Additional properties are not"),
    ("    - groupName: gpu", "    - groupname: gpu", "'groupName' is a required property"),
    ("mountPath: /mnt/lrcs}", "mountpath: /mnt/lrcs}", "'mountPath' is a required property"),
    ("memory: 8Gi}", "memory: 8GiB}", "resources.requests.memory: '8GiB' is not valid under any"),
    ("      storage: 200Gi", "      storage: 200 GB", "VolumeClaim.spec.resources.requests"),
    ("  accessModes:", "  accessMode:", "PersistentVolumeClaim.spec: Additional properties"),
    ("networking.k8s.io/v1", "networking.k8s.io/v2", "NetworkPolicy.apiVersion: must be networkin"),
    ("  policyTypes:", "  policytypes:", "NetworkPolicy.spec: Additional properties are not allo"),
    ("clusterSelector: {ray.io/cluster: lrcs}", "clusterSelector: {a: b}", "clusterSelector: must"),
    ("study/run.py mine", "train.py", "RayJob.spec.entrypoint: must run study/run.py"),
    ("  entrypoint:", "  entryPoint:", "RayJob.spec: Additional properties"),
    ("ReadWriteMany]", "ReadWriteOnce]", "the claimed folder must be ReadWriteMany"),
    ("claimName: lrcs-storage", "claimName: other", "LRCS_STORAGE must be where the claimed"),
    ('RAY_USAGE_STATS_ENABLED, value: "0"', 'RAY_USAGE_STATS, value: "0"', "must set RAY"),
    ("--host 127.0.0.1", "--host 0.0.0.0", "RayCluster.spec.headGroupSpec.template.spec.contain"),
    ("--host 127.0.0.1", "--host localhost", "MLflow must be on 127.0.0.1:5000"),
    ("while true; do python", "while true; (do python", "is not valid shell"),
    ("while true; do python", "if true; then python", "MLflow must be started again"),
    ("podSelector:\n    matchLabels: {ray.io/cluster: lrcs}", "podSelector: {}", "NetworkPolicy.s"),
    ("kind: NetworkPolicy", "kind: Ingress", "kind: must be"),
    ("# Creates:", "# Makes:", "header: must have a line that starts with '# Creates:'"),
    (', nvidia.com/gpu: "1"}', "}", "workerGroupSpecs.0.template: a worker must have a GPU"),
]


@pytest.mark.parametrize(("old", "new", "expected"), BROKEN)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = FILE.read_text("utf-8")
    assert old in text
    path = tmp_path / "kuberay.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    found = mistakes(path)
    assert any(one.startswith("kuberay.yaml: ") and expected in one for one in found), found
