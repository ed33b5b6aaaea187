"""Checks of cluster/kuberay.yaml: fields by schemas, and the rules of the other cluster files."""

import functools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.cluster import operator_rules
from tests.cluster.launcher_checks import closed_and_without_secrets, header
from tests.cluster.node_commands import VARIABLES

Manifest = dict[str, Any]
DATA = Path(__file__).parent / "data"
RAY_KINDS = ("RayCluster", "RayJob")
# Kubernetes' own kinds: the group and version, and the name of the definition.
OWN_KINDS = {
    "PersistentVolumeClaim": ("v1", "io.k8s.api.core.v1.PersistentVolumeClaim"),
    "NetworkPolicy": ("networking.k8s.io/v1", "io.k8s.api.networking.v1.NetworkPolicy"),
}
KINDS = (*OWN_KINDS, *RAY_KINDS)


def mistakes(path: Path) -> list[str]:
    """All that is wrong with a manifest."""
    text = path.read_text(encoding="utf-8")
    documents = list(yaml.safe_load_all(text))
    found = list(header(text))
    kinds = [one.get("kind") for one in documents]
    if sorted(kinds) != sorted(KINDS):
        found.append(f"kind: must be {KINDS}, one each, but are {kinds}")
        return [f"{path.name}: {one}" for one in found]
    claim, policy, cluster, job = (documents[kinds.index(one)] for one in KINDS)
    for one in documents:
        key = one["kind"]
        found += [f"{key}.{line}" for line in closed_and_without_secrets(one)]
        found += [f"{key}.{line}" for line in wrong_fields(one)]
    if len(found) == 0:
        found += _cluster(cluster, claim)
        found += _job(job, cluster)
        found += _policy(policy, cluster)
    return [f"{path.name}: {one}" for one in found]


def wrong_fields(document: Manifest) -> Iterator[str]:
    """Against the schema of this kind alone: of `oneOf` nobody could read the message."""
    kind, schema = document["kind"], dict(schemas())
    if kind in RAY_KINDS:
        fields = {**schema["properties"], "spec": {"$ref": f"#/$defs/{kind}"}}
        schema["properties"] = fields
    else:
        version, name = OWN_KINDS[kind]
        if document.get("apiVersion") != version:
            yield f"apiVersion: must be {version}, but is {document.get('apiVersion')}"
        schema = {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": f"#/$defs/{name}"}
    validator = jsonschema.Draft202012Validator(schema)
    for error in validator.iter_errors(document):
        yield f"{'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}"


@functools.cache
def schemas() -> Manifest:
    """KubeRay's fields, with Kubernetes' definitions beside its own, which come first."""
    kubernetes = json.loads((DATA / "kubernetes-fields.json").read_text(encoding="utf-8"))
    kuberay: Manifest = yaml.safe_load((DATA / "kuberay-fields.yaml").read_text(encoding="utf-8"))
    return {**kuberay, "$defs": kubernetes["$defs"] | kuberay["$defs"]}


def _cluster(cluster: Manifest, claim: Manifest) -> Iterator[str]:
    spec, here = cluster["spec"], "RayCluster.spec"
    yield from (f"{here}.{one}" for one in operator_rules.cluster(spec))
    head = spec["headGroupSpec"]
    if head.get("serviceType", "ClusterIP") != "ClusterIP" or head.get("enableIngress"):
        yield f"{here}.headGroupSpec.serviceType: must be ClusterIP without an ingress"
    if head.get("rayStartParams", {}).get("num-gpus") != "0" or _gpus(head):
        yield f"{here}.headGroupSpec.rayStartParams.num-gpus: the head must have no GPU"
    if not spec.get("enableInTreeAutoscaling"):
        yield f"{here}.enableInTreeAutoscaling: must be true, or no worker comes"
    if not 0 < spec.get("autoscalerOptions", {}).get("idleTimeoutSeconds", 0) <= 1800:
        yield f"{here}.autoscalerOptions.idleTimeoutSeconds: must be in (0, 1800]"
    if spec.get("autoscalerOptions", {}).get("version") != "v2":
        yield f"{here}.autoscalerOptions.version: must be v2, said aloud"
    yield from _mlflow(head)
    for index, group in enumerate(spec.get("workerGroupSpecs", [])):
        key = f"{here}.workerGroupSpecs.{index}"
        if group.get("minReplicas", 0) or group.get("replicas", 0):
            yield f"{key}.replicas: and minReplicas must be 0: no worker without work"
        if not 0 < group.get("maxReplicas", 2**31) <= 4:
            yield f"{key}.maxReplicas: must be in [1, 4], but is {group.get('maxReplicas')}"
        if not _gpus(group):
            yield f"{key}.template: a worker must have a GPU"
    for key, group in (
        ("headGroupSpec", head),
        ("workerGroupSpecs.0", spec["workerGroupSpecs"][0]),
    ):
        yield from (f"{here}.{key}.{one}" for one in _node(group, claim))


def _node(group: Manifest, claim: Manifest) -> Iterator[str]:
    """The variables and the common folder of a pod with Ray, which is its first container."""
    pod = group["template"]["spec"]
    container = pod["containers"][0]
    have = {one["name"]: one.get("value") for one in container.get("env", [])}
    for name, wanted in VARIABLES.items():
        if not have.get(name):
            yield f"template: must set {name}"
        elif wanted is not None and have[name] != wanted:
            yield f"template: {name} must be {wanted}, but is {have[name]}"
    mounted = {one["mountPath"]: one["name"] for one in container.get("volumeMounts", [])}
    claims = {
        one["name"]: one.get("persistentVolumeClaim", {}).get("claimName")
        for one in pod.get("volumes", [])
    }
    volume = mounted.get(have.get("LRCS_STORAGE") or "", "")
    if claims.get(volume) != claim["metadata"]["name"]:
        yield "template: LRCS_STORAGE must be where the claimed folder is mounted"
    if claim["spec"]["accessModes"] != ["ReadWriteMany"]:
        yield "template: the claimed folder must be ReadWriteMany"


def _mlflow(head: Manifest) -> Iterator[str]:
    key = "RayCluster.spec.headGroupSpec.template.spec.containers"
    servers = [
        one
        for one in head["template"]["spec"]["containers"]
        if "mlflow server" in " ".join(one.get("command", []))
    ]
    if len(servers) != 1:
        yield f"{key}: must have one MLflow server"
        return
    command = servers[0]["command"][-1]
    if "--host 127.0.0.1 --port 5000" not in command:
        yield f"{key}: MLflow must be on 127.0.0.1:5000, but is {command}"
    if "while true; do python -m mlflow server" not in command:
        yield f"{key}: MLflow must be started again: under autoscaler v2 Kubernetes does not"
    checked = subprocess.run(
        ["bash", "-n", "-c", command], capture_output=True, text=True, check=False
    )
    if checked.returncode != 0:
        yield f"{key}: is not valid shell: {checked.stderr.strip()}"


def _job(job: Manifest, cluster: Manifest) -> Iterator[str]:
    spec, name = job["spec"], cluster["metadata"]["name"]
    yield from (f"RayJob.spec.{one}" for one in operator_rules.job(spec))
    if spec.get("clusterSelector") != {"ray.io/cluster": name}:
        yield f"RayJob.spec.clusterSelector: must select the cluster {name}"
    if "study/run.py" not in spec.get("entrypoint", ""):
        yield f"RayJob.spec.entrypoint: must run study/run.py, but is {spec.get('entrypoint')}"
    images = {
        one["image"]
        for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"])
        for one in group["template"]["spec"]["containers"]
    } | {one["image"] for one in spec["submitterPodTemplate"]["spec"]["containers"]}
    if len(images) != 1:
        yield f"RayJob.spec.submitterPodTemplate: must have the image of all, not {sorted(images)}"


def _policy(policy: Manifest, cluster: Manifest) -> Iterator[str]:
    selected = policy["spec"]["podSelector"].get("matchLabels")
    if selected != {"ray.io/cluster": cluster["metadata"]["name"]}:
        yield f"NetworkPolicy.spec.podSelector: must select the cluster's pods, not {selected}"
    for rule in policy["spec"]["ingress"]:
        if not rule.get("from"):
            yield "NetworkPolicy.spec.ingress: must not let in everybody"


def _gpus(group: Manifest) -> int:
    limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    return int(limits.get("nvidia.com/gpu", 0))
