"""The files of Ray's cluster launcher, and what kuberay.yaml has in common with them."""

import itertools
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
# Lock and extras of each file: the head needs its cloud's to start workers.
CLOUDS = {"gpu": "cuda aws", "gcp": "cuda gcp", "azure": "cuda azure"}
INSTALLED = {**CLOUDS, "onprem": "cuda", "local": "cpu"}
# The project and nothing else: no results, no caches, no .git.
BROUGHT = ("study", "trainables", "search_spaces", "cluster", "pyproject.toml", "README.md")
# What every node must know, beside three folders.
VARIABLES = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
}
FOLDERS = ("LRCS_STORAGE", "LRCS_DATA_ROOT", "LRCS_CACHE_ROOT")
# Anything that would listen on, or be let in from, everywhere; and secrets.
UNWANTED = (
    r"\b0\.0\.0\.0\b|(?<![\w:])::(?![\w:])",
    r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    r"-----BEGIN [A-Z ]*PRIVATE KEY",
    r"\b(gh[pousr]_\w{20,}|hf_\w{20,}|ya29\.[\w-]{20,}|xox[abp]-\w+)",
    r"(?i)(password|passwd|secret|api_?key|access_?token)\w*\s*[:=]\s*\S",
)
# Version 1 of the autoscaler goes by cluster/spot_first.py, version 2 by `priority`.
SCORER = (
    "RAY_enable_autoscaler_v2=0 PYTHONPATH=$HOME/lrcs/cluster "
    "RAY_AUTOSCALER_UTILIZATION_SCORER=spot_first.score"
)
AUTOSCALER = Path(ray.__file__).parent / "autoscaler"
# The folder of each provider's source in Ray, and what a file must give it.
PROVIDERS = {
    "aws": ("aws", {"region"}),
    "gcp": ("gcp", {"region", "availability_zone", "project_id"}),
    "azure": ("_azure", {"location", "resource_group", "subscription_id"}),
    "local": ("local", {"head_ip", "worker_ips"}),
}
of_every_file = pytest.mark.parametrize("name", INSTALLED)
with_kuberay = pytest.mark.parametrize("name", [*INSTALLED, "kuberay"])


def text_of(name: str) -> str:
    return (ROOT / f"cluster/{name}.yaml").read_text("utf-8")


def load(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(text_of(name))
    return config


def environment(config: dict[str, Any]) -> dict[str, str]:
    """What a node's shell knows after the first setup command: it is run, in an empty home."""
    with tempfile.TemporaryDirectory() as home:
        script = f"({config['setup_commands'][0]}) && . ~/lrcs.env && env -0"
        clean = {"HOME": home, "PATH": os.environ["PATH"]}
        done = subprocess.run(["bash", "-c", script], env=clean, capture_output=True, text=True)
    pairs = [entry.partition("=") for entry in done.stdout.split("\0") if entry]
    return {name: value.replace(home, "~") for name, _, value in pairs}


def test_every_cluster_file_is_tested() -> None:
    names = {path.stem for path in (ROOT / "cluster").glob("*.yaml")}
    assert names == {*INSTALLED, "kuberay"}


@with_kuberay
def test_the_header_says_what_it_creates_costs_and_wants_edited(name: str) -> None:
    lines = text_of(name).splitlines()
    head = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    for word in ("Creates:", "Costs", "Edit:", "Needs"):
        assert f"\n# {word}" in head
    assert 1 <= sum("# EDIT" in line for line in lines) <= 8
    costs = re.search(r"^# Costs.*(\n#   .*)*", head, re.MULTILINE)
    assert costs
    if "USD" in costs[0]:
        assert re.search(r"20\d\d", costs[0]) and "check" in costs[0]


@with_kuberay
def test_nothing_is_open_to_every_address_and_nothing_is_secret(name: str) -> None:
    values = yaml.safe_dump_all(yaml.safe_load_all(text_of(name)))
    assert [pattern for pattern in UNWANTED if re.search(pattern, values)] == []


@of_every_file
def test_ray_takes_the_file_and_reads_every_key_of_its_provider(name: str) -> None:
    config = load(name)
    validate_config(prepare_config(config))
    assert 0 < config["idle_timeout_minutes"] <= 30
    provider = config["provider"]
    folder, required = PROVIDERS[provider["type"]]
    assert required <= provider.keys()
    own, common = AUTOSCALER / "_private" / folder, (AUTOSCALER, AUTOSCALER / "_private")
    paths = [*own.rglob("*.py"), *(path for place in common for path in place.glob("*.py"))]
    source = "".join(path.read_text("utf-8") for path in paths)
    assert [key for key in provider if f'"{key}"' not in source] == []
    # Ray itself lets in ssh.
    assert "IpPermissions" not in provider.get("security_group", {})


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_bills_little_and_spot_comes_first(name: str) -> None:
    config = load(name)
    types = config["available_node_types"]
    assert (list(types), config["head_node_type"]) == (
        ["head", "gpu_spot", "gpu_on_demand"],
        "head",
    )
    head, spot, steady = types.values()
    assert (head["max_workers"], head["resources"]) == (0, {"CPU": 0})
    for node_type in types.values():
        assert (node_type["min_workers"], config["max_workers"]) == (0, 4)
        assert node_type["max_workers"] <= config["max_workers"]
    assert spot["resources"] == steady["resources"] and spot["resources"]["GPU"] == 1
    nodes = [str(node_type["node_config"]).lower() for node_type in types.values()]
    assert ["spot" in node for node in nodes] == [False, True, False]
    # The script goes by the name of the type.
    scored = any(SCORER in command for command in config["head_start_ray_commands"])
    assert scored or spot["priority"] > steady["priority"]


def test_nodes_have_what_each_cloud_asks_for() -> None:
    """What Ray passes on unread; test_bootstrap.py shows AWS's to a pretended AWS."""
    nodes = {
        name: [
            node_type["node_config"] for node_type in load(name)["available_node_types"].values()
        ]
        for name in CLOUDS
    }
    # Ray's own image is of 2018.
    assert all(node["ImageId"].startswith("ami-") for node in nodes["gpu"])
    assert all("machineType" in node for node in nodes["gcp"])
    for node in nodes["gcp"][1:]:
        assert node["scheduling"]["onHostMaintenance"] == "TERMINATE"
    template = json.loads(
        (AUTOSCALER / "_private/_azure/azure-vm-template.json").read_text("utf-8")
    )
    types = {"string": str, "int": int, "bool": bool, "object": dict, "array": list}
    for key, value in (
        item for node in nodes["azure"] for item in node["azure_arm_parameters"].items()
    ):
        if key != "availability_zone":
            assert isinstance(value, types[template["parameters"][key]["type"]]), key


@of_every_file
def test_every_node_gets_the_project_its_lock_and_its_variables(name: str) -> None:
    config = load(name)
    assert config["file_mounts"] == {f"~/lrcs/{source}": source for source in BROUGHT}
    assert all((ROOT / source).exists() for source in BROUGHT)
    assert config["setup_commands"][1:] == [f"bash ~/lrcs/cluster/install.sh {INSTALLED[name]}"]
    known = environment(config)
    assert known.items() >= VARIABLES.items()
    assert all(known[folder].startswith(("/", "~/")) for folder in FOLDERS)
    assert known["PATH"].startswith("~/lrcs-env/bin:")
    # Where the nodes' common folder is.
    assert known["LRCS_SHARE"] or config["provider"]["type"] == "local"
    assert known.keys() == environment(load("gpu")).keys()


@of_every_file
def test_commands_are_valid_shell_and_start_what_belongs_on_a_node(name: str) -> None:
    config = load(name)
    for command in itertools.chain(*(config[key] for key in config if key.endswith("_commands"))):
        # As Ray wraps it.
        subprocess.run(["bash", "-n", "-c", f"({command})"], check=True)
        for script in re.findall(r"~/lrcs/([\w./-]+)", command):
            assert (ROOT / script).is_file()
    head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    assert all(command.startswith(". ~/lrcs.env;") for command in [*head, *worker])
    (start,) = [command for command in head if "ray start --head" in command]
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert sum("cluster/mlflow.sh" in command for command in head) == 1
    assert not any("mlflow" in command for command in worker)
    for commands, role in ((head, "head"), (worker, "worker")):
        assert any(f"cluster/storage.sh {role}" in command for command in commands)
    if config["provider"]["type"] == "local":
        assert "RAY_enable_autoscaler_v2=0" in start
    if config["provider"].get("worker_ips"):
        assert "--num-gpus=0" in start
