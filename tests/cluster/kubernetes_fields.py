"""Makes tests/cluster/data/kubernetes-fields.json from the schemas of a package on PyPI.

    pip download --no-deps kubernetes-validate==1.37.0
    python tests/cluster/kubernetes_fields.py kubernetes_validate-1.37.0-py3-none-any.whl

The whole package is 22 MB; here is what cluster/kuberay.yaml may refer to, without descriptions.
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

Schema = dict[str, Any]
VERSION = "v1.34.0"
SOURCE = f"kubernetes_validate/kubernetes-json-schema/{VERSION}-local-strict/_definitions.json"
TARGET = Path(__file__).parent / "data/kubernetes-fields.json"
CORE, NETWORK = "io.k8s.api.core.v1", "io.k8s.api.networking.v1"
ROOTS = (
    f"{CORE}.PersistentVolumeClaim",
    f"{CORE}.PodSpec",
    f"{CORE}.ServiceSpec",
    f"{CORE}.ServiceStatus",
    f"{NETWORK}.NetworkPolicy",
)
COMMENT = (
    f"Kubernetes {VERSION[1:]}: the definitions of {SOURCE} in {{name}} (PyPI; made from "
    "Kubernetes' OpenAPI schema, unknown fields refused) that these refer to: "
    f"{', '.join(ROOTS)}. Without descriptions, else unchanged. Copyright The Kubernetes "
    "Authors, Apache License 2.0 (LICENSE-Apache-2.0 beside this file). Made by "
    "tests/cluster/kubernetes_fields.py."
)


def main(wheel: Path) -> None:
    """Writes one definition a line."""
    with zipfile.ZipFile(wheel) as archive:
        everything: Schema = json.loads(archive.read(SOURCE))["$defs"]
    found: Schema = {}
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _without_descriptions(everything[name])
            waiting += _references(found[name])
    lines = (f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found))
    comment = json.dumps(COMMENT.format(name=wheel.name))
    text = ",\n".join(lines)
    TARGET.write_text(f'{{"$comment": {comment},\n"$defs": {{\n{text}\n}}}}\n', encoding="utf-8")


def _without_descriptions(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_descriptions(one) for one in value]
    if not isinstance(value, dict):
        return value
    # A field may itself be called description: its value is a schema, not a text.
    return {
        key: _without_descriptions(one)
        for key, one in value.items()
        if key != "description" or not isinstance(one, str)
    }


def _references(value: Any) -> list[str]:
    """The names of the definitions that a schema refers to."""
    if isinstance(value, list):
        return [name for one in value for name in _references(one)]
    if not isinstance(value, dict):
        return []
    here = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
    return here + _references(list(value.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
