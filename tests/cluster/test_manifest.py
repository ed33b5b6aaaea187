"""The KubeRay manifest: each object by a schema, then one object against another."""

import functools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.test_files import FOLDERS, VARIABLES, text_of

Manifest = dict[str, Any]
DATA = Path(__file__).parent / "data"
# The version of each kind, and the name of the definition of Kubernetes' own.
KINDS = {
    "PersistentVolumeClaim": ("v1", "io.k8s.api.core.v1.PersistentVolumeClaim"),
    "NetworkPolicy": ("networking.k8s.io/v1", "io.k8s.api.networking.v1.NetworkPolicy"),
    "RayCluster": ("ray.io/v1", None),
    "RayJob": ("ray.io/v1", None),
}


@functools.cache
def objects() -> dict[str, Manifest]:
    """The objects of the file by their kinds, each once."""
    documents = list(yaml.safe_load_all(text_of("kuberay")))
    assert [document["kind"] for document in documents] == list(KINDS)
    return {document["kind"]: document for document in documents}


@functools.cache
def schemas() -> Manifest:
    """KubeRay's fields, with Kubernetes' definitions beside its own, which come first."""
    kubernetes = json.loads((DATA / "kubernetes-fields.json").read_text("utf-8"))
    kuberay: Manifest = yaml.safe_load((DATA / "kuberay-fields.yaml").read_text("utf-8"))
    return {**kuberay, "$defs": kubernetes["$defs"] | kuberay["$defs"]}


def test_the_schemas_are_sound_and_name_their_sources() -> None:
    merged = schemas()
    jsonschema.Draft202012Validator.check_schema(merged)
    for reference in re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(merged)):
        assert reference in merged["$defs"]
    text = (DATA / "kuberay-fields.yaml").read_text("utf-8")
    assert "commit\n#   12cb11e48d1a375a19b771ec53c3b0023d189d4e" in text and "restated" in text
    comment = json.loads((DATA / "kubernetes-fields.json").read_text("utf-8"))["$comment"]
    assert comment.startswith("Kubernetes 1.34.0: ") and "Apache License 2.0" in comment


def errors(kind: str, document: Manifest) -> list[str]:
    """Against the schema of this kind alone: of `oneOf` nobody could read the message."""
    schema, (_, name) = dict(schemas()), KINDS[kind]
    if name is None:
        schema["properties"] = {**schema["properties"], "spec": {"$ref": f"#/$defs/{kind}"}}
    else:
        schema = {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": f"#/$defs/{name}"}
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_has_the_fields_of_its_kind_and_no_others(kind: str) -> None:
    document = objects()[kind]
    assert document["apiVersion"] == KINDS[kind][0]
    assert errors(kind, document) == []
    # An unknown field, which Kubernetes drops silently, is an error.
    changed = {**document, "spec": {**document["spec"], "suspended": True}}
    assert "'suspended' was unexpected" in errors(kind, changed)[0]


def test_the_objects_fit_together() -> None:
    claim, policy, cluster, job = (document["spec"] for document in objects().values())
    selector = {"ray.io/cluster": objects()["RayCluster"]["metadata"]["name"]}
    assert claim["accessModes"] == ["ReadWriteMany"]
    assert policy["podSelector"] == {"matchLabels": selector}
    assert all(rule["from"] for rule in policy["ingress"])
    assert job["clusterSelector"] == selector
    pods = [
        group["template"]["spec"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    ]
    for pod in pods:
        # The container with Ray is the first.
        ray = pod["containers"][0]
        variables = {entry["name"]: entry["value"] for entry in ray["env"]}
        assert variables.items() >= VARIABLES.items() and all(map(variables.get, FOLDERS))
        mounts = {entry["mountPath"]: entry["name"] for entry in ray["volumeMounts"]}
        claims = {volume["name"]: volume["persistentVolumeClaim"] for volume in pod["volumes"]}
        folder = claims[mounts[variables["LRCS_STORAGE"]]]
        assert folder["claimName"] == objects()["PersistentVolumeClaim"]["metadata"]["name"]
    gpus = [pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for pod in pods]
    assert gpus == [None, "1"]
    pods.append(job["submitterPodTemplate"]["spec"])
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1


def test_the_head_has_an_mlflow_server_that_is_started_again() -> None:
    head = objects()["RayCluster"]["spec"]["headGroupSpec"]["template"]["spec"]
    (script,) = [container["command"][-1] for container in head["containers"][1:]]
    # Under version 2 of the autoscaler Kubernetes does not start it again.
    server = "while true; do python -m mlflow server --host 127.0.0.1 --port 5000 "
    assert script.count("mlflow server") == 1 and server in script
    subprocess.run(["bash", "-n", "-c", script], check=True)
