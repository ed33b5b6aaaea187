"""The files of Ray's cluster launcher: right as they are, and each mistake named when made."""

from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from tests.cluster import provider_checks
from tests.cluster.launcher_checks import mistakes
from tests.cluster.node_commands import environment

ROOT = Path(__file__).parents[2]
CLOUDS = ("gpu", "gcp", "azure")
FILES = (*CLOUDS, "onprem", "local")
SPOT_LIMIT = "    max_workers: 4\n"


def load(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / f"cluster/{name}.yaml").read_text("utf-8"))
    return config


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_wrong(name: str) -> None:
    assert mistakes(ROOT / f"cluster/{name}.yaml", ROOT) == []


def test_every_cluster_file_is_tested() -> None:
    found = {path.stem for path in (ROOT / "cluster").glob("*.yaml")}
    assert found == {*FILES, "kuberay"}


# File, what is replaced by what, and what the check must say: file and key.
BROKEN = [
    ("gpu", SPOT_LIMIT, "    max_workers: 9\n", "gpu_spot.max_workers: must be at most max_wor"),
    ("gpu", "    max_workers: 2  #", "    min_workers: 3\n    max_workers: 2  #", "min_workers"),
    ("gpu", SPOT_LIMIT, "", "available_node_types.gpu_spot.max_workers: must be given"),
    (
        "gpu",
        "    min_workers: 0\n    max_workers: 4",
        "    min_workers: 1\n    max_workers: 4",
        "0 (",
    ),
    ("gpu", "{CPU: 0}", "{CPU: 0, GPU: 1}", "types.head.resources.GPU: the head must have no GPU"),
    ("gpu", "max_workers: 0\n", "max_workers: 1\n", "available_node_types.head.max_workers"),
    ("gpu", "  gpu_spot:", "  head_two:", "head_node_type: must be the one type named head"),
    ("gpu", "head_node_type: head", "head_node_type: other", "`head_node_type` must be one of"),
    ("gpu", "      InstanceMarketOptions: {MarketType: spot}\n", "", "a spot type and one on dem"),
    ("gcp", "    priority: 1  #", "    priority: 0  #", "gpu_spot.priority: spot must come before"),
    ("gpu", "=spot_first.score", "=other", "gpu_spot.priority: spot must come before on demand"),
    ("gpu", "  gpu_spot:", "  gpu_cheap:", "gpu_cheap: cluster/spot_first.py goes by the name"),
    ("gpu", "minutes: 10", "minutes: 600", "idle_timeout_minutes: must be in (0, 30]"),
    ("gpu", "minutes: 10", "minutes: never", "idle_timeout_minutes"),
    ("gpu", "  region: us-east-1  #", "  regoin: us-east-1  #", "provider.regoin: is not known"),
    ("gpu", "  region: us-east-1  #", "  #", "provider.region: must be given for aws"),
    ("gpu", "type: aws", "type: asw", "provider.type: must be one of"),
    ("gpu", "InstanceType: m7i", "InstanceTyp: m7i", "InstanceTyp is not a parameter of RunInst"),
    ("gpu", "VolumeSize: 200", "VolumeSize: big", "VolumeSize"),
    ("gpu", "ami-00000000000000000", "latest_dlami", "node_config: ImageId must be an AMI"),
    ("gpu", "ssh_user: ubuntu", "ssh_usr: ubuntu", "auth: Additional properties"),
    ("gpu", "=127.0.0.1\n", "=0.0.0.0\n", "head_start_ray_commands[3]: must not be open"),
    ("gpu", "--dashboard-host=127.0.0.1\n", "\n", "commands[3]: ray start must have --dashboard"),
    ("gpu", "dashboard-host=127.0.0.1", "dashboard-host=::", "commands[3]: must not be open"),
    (
        "gpu",
        "    GroupName: lrcs-gpu",
        "    IpPermissions: [{FromPort: 8265, ToPort: 8265}]",
        "provider.security_group.IpPermissions: only ssh",
    ),
    ("gpu", "cluster_name: lrcs", "cluster_name: AKIAABCDEFGHIJKLMNOP", "cluster_name: looks like"),
    ("gpu", "DATA_ROOT=$HOME/lrcs-data", "DB_PASSWORD=hunter2", "[0]: looks like a password"),
    ("gpu", ": trainables", ": trainable", "file_mounts.~/lrcs/trainables: trainable does not"),
    ("gpu", ": trainables", ": .", "file_mounts.~/lrcs/trainables: . would take"),
    ("gpu", ": trainables", ": .git", "file_mounts.~/lrcs/trainables: .git would take"),
    ("gpu", ": trainables", ": ~/secret", "file_mounts.~/lrcs/trainables: must be relative"),
    ("gpu", "worker_start_ray_commands:\n  -", "worker_start_ray_commands:\n  - (", "valid shell"),
    (
        "gpu",
        "cluster/storage.sh worker",
        "cluster/store.sh worker",
        "calls cluster/store.sh, which",
    ),
    (
        "gpu",
        "storage.sh worker",
        "storage.sh head",
        "worker_start_ray_commands: must call cluster/",
    ),
    ("gpu", "install.sh cuda aws", "install.sh rocm aws", "there is no cluster/constraints-rocm"),
    ("gpu", "install.sh cuda aws", "install.sh cuda asw", "pyproject.toml has no such extra"),
    ("gpu", "install.sh cuda aws", "install.sh cuda", "the head needs the extra aws"),
    ("gpu", "RAY_USAGE_STATS_ENABLED=0", "RAY_USAGE_STATS_ENABLED=1", "RAY_USAGE_STATS_ENABLED mu"),
    ("gpu", "export LRCS_CACHE_ROOT", "export CACHE_ROOT", "must export LRCS_CACHE_ROOT"),
    ("gpu", "LRCS_STORAGE=/mnt", "LRCS_STORAGE=mnt", "LRCS_STORAGE must be an absolute path"),
    ("gpu", "http://127.0.0.1:5000", "http://127.0.0.1:5001", "MLFLOW_TRACKING_URI must be"),
    ("gpu", "PATH=$HOME/lrcs-env/bin:", "PATH=", "PATH must start with ~/lrcs-env/bin"),
    ("gpu", "LRCS_SHARE=head", "LRCS_SHARE=", "LRCS_SHARE must say"),
    ("gpu", "  - . ~/lrcs.env; bash ~/lrcs/cluster/mlflow.sh\n", "", "must start MLflow once"),
    (
        "gpu",
        "- . ~/lrcs.env; ray stop",
        "- ray stop",
        "commands[0]: must start with '. ~/lrcs.env;'",
    ),
    ("gpu", "# Costs", "# Price", "header: must have a line that starts with '# Costs'"),
    ("gpu", "June 2026", "June", "header: a price must come with its date"),
    ("gpu", "# EDIT", "# edit", "header: 1 to 8 lines must be marked"),
    ("gcp", "machineType: e2", "machineTyp: e2", "head.node_config.machineTyp: is not known"),
    ("gcp", "{onHostMaintenance: TERM", "{onHost: TERM", "gpu_on_demand.node_config.scheduling"),
    ("gcp", "project_id: my-project", "project: my-project", "provider.project: is not known"),
    ("azure", "vmSize: Standard_D2s_v5", "vmsize: x", "azure_arm_parameters.vmsize: is not a para"),
    ("azure", "osDiskSize: 200", "osDiskSize: big", "osDiskSize: must be of type int"),
    ("azure", "  resource_group: lrcs-gpu\n", "", "provider.resource_group: must be given"),
    ("onprem", "export RAY_enable_autoscaler_v2=0; ", "", "need RAY_enable_autoscaler_v2=0"),
    ("onprem", " --num-gpus=0", "", "head_start_ray_commands[3]: the head must have --num-gpus=0"),
    ("onprem", "  head_ip: 192", "  head: 192", "provider.head_ip: must be given for local"),
    ("local", "worker_ips: []", "worker_ips: none", "provider.worker_ips"),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), BROKEN)
def test_a_mistake_is_named(tmp_path: Path, name: str, old: str, new: str, expected: str) -> None:
    text = (ROOT / f"cluster/{name}.yaml").read_text("utf-8")
    assert old in text
    path = tmp_path / f"{name}.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    found = mistakes(path, ROOT)
    assert any(one.startswith(f"{name}.yaml: ") and expected in one for one in found), found


@pytest.mark.parametrize("kind", sorted(provider_checks.KEYS))
def test_known_provider_keys_are_those_of_rays_sources(kind: str) -> None:
    folder = provider_checks.SOURCES / provider_checks.FOLDERS[kind]
    text = "".join(path.read_text("utf-8") for path in folder.rglob("*.py"))
    beside = Path(ray.__file__).parent / "autoscaler"
    text += "".join(path.read_text("utf-8") for path in beside.glob("*.py"))
    for key in provider_checks.KEYS[kind] - provider_checks.ELSEWHERE:
        assert f'"{key}"' in text, f"{key} is read nowhere for {kind}"


def test_all_files_set_the_same_variables() -> None:
    names = {name: environment(load(name)).keys() for name in FILES}
    assert all(one == names["gpu"] for one in names.values()), names


@pytest.mark.parametrize("name", CLOUDS)
def test_the_most_that_a_cloud_may_bill_is_small(name: str) -> None:
    assert load(name)["max_workers"] <= 4
