"""The KubeRay manifest: right as it is, and each mistake named when made."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.cluster.manifest_checks import SCHEMA, mistakes

FILE = Path(__file__).parents[2] / "cluster/kuberay.yaml"


def test_nothing_is_wrong() -> None:
    assert mistakes(FILE) == []


def test_the_schema_is_one_and_says_that_it_is_not_the_crd() -> None:
    text = SCHEMA.read_text("utf-8")
    jsonschema.Draft202012Validator.check_schema(yaml.safe_load(text))
    assert "This is NOT the CustomResourceDefinition" in text


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
    ("submissionMode: K8sJobMode", "submissionMode: K8sJob", "RayJob.spec.submissionMode"),
    ("clusterSelector: {ray.io/cluster: lrcs}", "clusterSelector: {a: b}", "clusterSelector: must"),
    ("study/run.py quickstart", "train.py", "RayJob.spec.entrypoint: must run study/run.py"),
    ("  entrypoint:", "  entryPoint:", "RayJob.spec: Additional properties"),
    ("ReadWriteMany]", "ReadWriteOnce]", "the claimed folder must be ReadWriteMany"),
    ("claimName: lrcs-storage", "claimName: other", "LRCS_STORAGE must be where the claimed"),
    ('RAY_USAGE_STATS_ENABLED, value: "0"', 'RAY_USAGE_STATS, value: "0"', "must set RAY"),
    ("--host 127.0.0.1", "--host 0.0.0.0", "RayCluster.spec.headGroupSpec.template.spec.contain"),
    ("--host 127.0.0.1", "--host localhost", "MLflow must be on 127.0.0.1:5000"),
    ("exec python -m mlflow", "(exec python -m mlflow", "is not valid shell"),
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
